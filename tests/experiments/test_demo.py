import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unetr_nnunet.experiments.demo import CONFIGURATION, DATASET, DemoSize, add_configuration, demo_stages, run_demo
from unetr_nnunet.trainers.names import parse_trainer_name


def test_every_step_is_a_command_that_exists(tmp_path: Path) -> None:
    steps = [step for stage in demo_stages(tmp_path, DemoSize()) for step in stage]
    assert len({step.name for step in steps}) == len(steps)
    assert all(os.access(step.command[0], os.X_OK) for step in steps)
    parse_trainer_name(DemoSize().trainer)


def test_the_configuration_is_added_and_replaced(tmp_path: Path) -> None:
    plans = tmp_path / "plans.json"
    plans.write_text(json.dumps({"configurations": {"3d_fullres": {"spacing": [1, 2, 3]}}}))
    add_configuration(plans, patch_size=(8, 8, 8), batch_size=1, spacing_mm=(5, 4, 3))
    add_configuration(plans, patch_size=(16, 32, 32), batch_size=2)
    found = json.loads(plans.read_text())["configurations"]
    assert found["3d_fullres"] == {"spacing": [1, 2, 3]}
    small = {"inherits_from": "3d_fullres", "patch_size": [16, 32, 32], "batch_size": 2, "batch_dice": True}
    assert found[CONFIGURATION] == small


@pytest.mark.slow
@pytest.mark.xdist_group("demo")
def test_a_small_demo_runs_from_download_to_masks_and_is_not_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # one thread: other tests run beside this one
    trainer = "nnUNetTrainerUNETR_Tiny_NoAug_1epochs_seed0"
    size = DemoSize(5, 1, folds=(0,), patch_size=(16, 32, 32), trainer=trainer)
    predictions, labels = run_demo(tmp_path, size)
    assert [path.name for path in predictions.glob("*.nii.gz")] == ["BTCV_0061.nii.gz"]
    assert [path.name for path in labels.iterdir()] == ["label0061.nii.gz"]
    stamp = (predictions / "BTCV_0061.nii.gz").stat().st_mtime_ns
    code = (
        "import pathlib; from unetr_nnunet.experiments.demo import DemoSize, run_demo; "
        f"run_demo(pathlib.Path({str(tmp_path)!r}), DemoSize(5, 1, (0,), patch_size=(16, 32, 32), trainer={trainer!r}))"
    )
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert again.stderr.count("done before") == len(demo_stages(tmp_path, size))
    assert (predictions / "BTCV_0061.nii.gz").stat().st_mtime_ns == stamp
    assert (tmp_path / "nnUNet_results" / DATASET).is_dir()
