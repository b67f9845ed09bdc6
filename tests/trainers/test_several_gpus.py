"""The trainer's own step in two processes, each with half of a batch, beside one process with the whole batch."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.run.run_training import find_free_network_port
from torch import multiprocessing
from torch.nn import functional

from tests import gloo
from tests.conftest import DATASET, set_nnunet_folders
from unetr_nnunet.architectures.presets import ARCHITECTURES
from unetr_nnunet.trainers.factory import trainer_class

pytestmark = pytest.mark.slow
Batch = dict[str, Any]
TOKENS = [*ARCHITECTURES, "NoTransformer", "Modified_NoTransformer", "batch_dice", "compiled"]
STEPS = 3


def make(preprocessed: Path, tokens: str) -> Any:
    """Make a trainer from the tokens of its name; two of them stand for other settings."""
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    changes = {"patch_size": [16, 32, 32], "batch_size": 2, "batch_dice": tokens == "batch_dice"}
    plans["configurations"]["3d_fullres"].update(changes)
    token = {"original": "", "batch_dice": "", "compiled": "Modified_"}.get(tokens, f"{tokens}_")
    name = f"nnUNetTrainerUNETR_{token}Tiny_2epochs"
    dataset = json.loads((preprocessed / "dataset.json").read_text())
    trainer = trainer_class(name)(plans, "3d_fullres", 0, dataset, torch.device("cpu"))
    if tokens == "compiled":
        trainer._do_i_compile = lambda: True
    trainer.recipe = replace(trainer.recipe, max_gradient_norm=1e9)  # clipping would hide a factor
    trainer.initialize()
    trainer.on_train_epoch_start()
    return trainer


def make_batches(trainer: Any) -> list[Batch]:
    """Return whole batches of two patches; the same ones in every process."""
    random = torch.Generator().manual_seed(5)
    batches = []
    for _ in range(STEPS):
        data = torch.randn(2, 1, 16, 32, 32, generator=random)
        target = (data > 0.5).float() + (data > 1)
        scales = trainer._get_deep_supervision_scales()
        sizes = [[round(axis * part) for axis, part in zip((16, 32, 32), scale, strict=True)] for scale in scales or []]
        targets = [functional.interpolate(target, size, mode="nearest") for size in sizes]
        batches.append({"data": data, "target": targets if scales else target, "keys": ["a", "b"]})
    return batches


def half(batch: Batch, rank: int) -> Batch:
    target = batch["target"]
    part = slice(rank, rank + 1)
    return {
        "data": batch["data"][part],
        "target": [scale[part] for scale in target] if isinstance(target, list) else target[part],
        "keys": batch["keys"][part],
    }


def weights_of(trainer: Any) -> dict[str, torch.Tensor]:
    network = trainer.network.module if trainer.is_ddp else trainer.network
    network = getattr(network, "_orig_mod", network)
    return {name: value.clone() for name, value in network.state_dict().items()}


def train(trainer: Any, batches: list[Batch]) -> dict[str, Any]:
    losses, gradients = [], []
    for batch in batches:
        losses.append(float(trainer.train_step(batch)["loss"]))
        gradients.append([None if p.grad is None else p.grad.clone() for p in trainer.network.parameters()])
    return {"losses": losses, "gradients": gradients, "weights": weights_of(trainer)}


def train_rank(rank: int, port: int, preprocessed: Path, results: Path) -> None:
    gloo.set_up(rank, port)
    inductor = torch.compile
    torch.compile = lambda network: inductor(network, fullgraph=True, backend="aot_eager")
    for tokens in TOKENS:
        torch.manual_seed(rank)  # the ranks start from different weights, and have to agree on rank 0's
        trainer = make(preprocessed, tokens)
        start = weights_of(trainer)
        batches = [half(batch, rank) for batch in make_batches(trainer)]
        result = train(trainer, batches) | {"start": start}
        loss = trainer.loss
        if rank == 1:
            trainer.loss = lambda *given, loss=loss: loss(*given) + torch.inf
        skipped = train(trainer, batches[:1])
        told = [str(step) for step in trainer.step_watch.skipped(but_last=0)]
        result |= {"after_skip": skipped["weights"], "told": told}
        torch.save(result, results / f"{tokens}_{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(_preprocessed_blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train everything in one pair of processes, which take longer to start than to train."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as monkeypatch:
        shutil.copytree(_preprocessed_blobs, folder, dirs_exist_ok=True)
        set_nnunet_folders(monkeypatch, folder)
        given = (find_free_network_port(), folder / "nnUNet_preprocessed" / DATASET, folder)
        multiprocessing.spawn(train_rank, given, nprocs=2)
    return folder


@pytest.mark.parametrize("tokens", TOKENS)
def test_two_halves_of_a_batch_train_like_the_whole(results: Path, blobs: Path, tokens: str) -> None:
    ranks = [torch.load(results / f"{tokens}_{rank}.pt") for rank in range(2)]
    for key in ("start", "weights", "gradients"):
        torch.testing.assert_close(ranks[0][key], ranks[1][key], rtol=0, atol=0)
    alone = make(blobs / "nnUNet_preprocessed" / DATASET, tokens.replace("compiled", "Modified"))
    alone.network.load_state_dict(ranks[0]["start"])
    expected = train(alone, make_batches(alone))
    means = [sum(losses) / 2 for losses in zip(*(rank["losses"] for rank in ranks), strict=True)]
    assert means == pytest.approx(expected["losses"], rel=1e-3)  # three steps magnify the rounding below
    assert len(set(means)) == STEPS
    first = ranks[0]["gradients"][0]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in first)
    got, wanted = (torch.cat([part.flatten() for part in parts]) for parts in (first, expected["gradients"][0]))
    # norms over four voxels at the coarsest scale magnify float32's rounding to 3e-3; in float64 it is 1e-16
    assert torch.linalg.vector_norm(got - wanted) < 1e-2 * torch.linalg.vector_norm(wanted)


@pytest.mark.parametrize("tokens", TOKENS)
def test_all_ranks_skip_a_step_that_one_cannot_take(results: Path, tokens: str) -> None:
    ranks = [torch.load(results / f"{tokens}_{rank}.pt") for rank in range(2)]
    for rank in ranks:
        torch.testing.assert_close(rank["after_skip"], rank["weights"], rtol=0, atol=0)
        (told,) = rank["told"]
        assert told.startswith(f"Epoch 0, iteration {STEPS} was skipped")
    assert "a gradient overflowed, here or on another GPU" in ranks[0]["told"][0]
    assert "loss inf, cases b: the network's output overflowed" in ranks[1]["told"][0]
