"""nnU-Net's own entry for several GPUs, ``run_training`` with ``num_gpus``, in two processes on a CPU, and ``--c``."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import gloo
from tests.conftest import DATASET

pytestmark = pytest.mark.slow
NAME = "nnUNetTrainerUNETR_Modified_Tiny_2epochs_seed1"
FATAL_STEP = "FATAL_STEP"
PROGRAM = """
import sys, torch
from nnunetv2.run import run_training
from tests.integration.test_several_gpus import rank
run_training.run_ddp = rank
run_training.run_training("917", "3d_fullres", 0, sys.argv[1], num_gpus=2, continue_training=sys.argv[2] == "--c")
"""


def short_epochs(trainer: Any) -> None:
    """Make epochs of four iterations, and let the whole job die in one of them, where the environment says so."""
    trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 4, 1
    step = trainer.optimisation_step

    def dying_step(batch: dict[str, Any]) -> dict[str, Any]:
        if trainer.iteration == int(os.environ.get(FATAL_STEP, "-1")):
            os._exit(9)
        return step(batch)

    trainer.optimisation_step = dying_step


def rank(*given: Any) -> None:
    """nnU-Net's ``run_ddp``, which a fresh process of its own starts with."""
    from nnunetv2.run.run_training import run_ddp

    gloo.use_gloo(short_epochs)
    run_ddp(*given)


def train(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, NAME, *words]
    variables = os.environ | {"nnUNet_n_proc_DA": "0", "PYTHONPATH": str(Path.cwd())} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=1500, env=variables, check=False)


def test_a_killed_training_over_two_gpus_continues_as_if_undisturbed(blobs: Path) -> None:
    plans = blobs / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json"
    content = json.loads(plans.read_text())
    content["configurations"]["3d_fullres"].update({"patch_size": [16, 32, 32], "batch_size": 2})
    plans.write_text(json.dumps(content))
    fold = blobs / "nnUNet_results" / DATASET / f"{NAME}__nnUNetPlans__3d_fullres" / "fold_0"

    done = train("-")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "I am local rank 1" in done.stdout
    undisturbed = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    assert json.loads((fold / "validation" / "summary.json").read_text())["metric_per_case"]
    fold.rename(fold.with_name("undisturbed"))

    killed = train("-", UNETR_NNUNET_CHECKPOINT_MINUTES="0", FATAL_STEP="6")
    assert killed.returncode != 0
    assert len(torch.load(fold / "checkpoint_latest.pth", weights_only=False)["finished_steps"]) == 2
    done = train("--c")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "continuing this epoch after iteration 2" in done.stdout
    continued = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    torch.testing.assert_close(continued["network_weights"], undisturbed["network_weights"], rtol=0, atol=0)
