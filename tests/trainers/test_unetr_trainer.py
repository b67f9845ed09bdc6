import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unetr_nnunet.architectures.build import PLANNED_NETWORK

pytestmark = pytest.mark.xdist_group("blobs")
Make = Callable[..., Any]
NAME = "nnUNetTrainerUNETR_Tiny_2epochs"


def train(trainer: Any) -> list[float]:
    """Train and return the loss of every iteration."""
    losses: list[float] = []
    step = trainer.optimisation_step

    def recording_step(batch: dict[str, Any]) -> dict[str, Any]:
        output = step(batch)
        losses.append(float(output["loss"]))
        return output

    trainer.optimisation_step = recording_step
    trainer.run_training()
    return losses


def test_the_recipe_decides_the_optimisation(make_trainer: Make) -> None:
    trainer = make_trainer("nnUNetTrainerUNETR_Tiny_Paper")
    trainer.initialize()
    assert trainer.num_epochs == 300
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert trainer.optimizer.param_groups[0]["weight_decay"] == 1e-5
    assert trainer.lr_scheduler.learning_rate(50) == pytest.approx(1e-4)
    assert make_trainer("nnUNetTrainerUNETR_Tiny").num_epochs == 1000
    assert make_trainer(NAME).num_epochs == 2


def test_the_same_seed_gives_the_same_loss_curve(make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(make_trainer(NAME + "_seed3"))
    monkeypatch.setenv("nnUNet_n_proc_DA", "2")
    again = train(make_trainer(NAME + "_seed3"))
    other = train(make_trainer(NAME + "_seed4"))
    assert len(first) == 8
    assert first == again
    assert first != other


def test_gradients_are_clipped_and_the_rate_follows_the_iteration(make_trainer: Make) -> None:
    trainer = make_trainer(NAME)
    trainer.initialize()
    trainer.loss = lambda output, target: 1e6 * output.square().mean()
    batch = {"data": torch.randn(2, 1, 16, 32, 32), "target": torch.zeros(2, 1, 16, 32, 32)}
    trainer.train_step(batch)
    norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in trainer.network.parameters()]))
    assert norm == pytest.approx(1.0, rel=1e-3)
    trainer.train_step(batch)
    assert trainer.optimizer.param_groups[0]["lr"] == trainer.lr_scheduler.learning_rate(1 / 4)


@pytest.mark.parametrize(
    ("where", "reason"), [("data", "voxels"), ("weights", "learning rate"), ("loss", "overflowed")]
)
def test_a_loss_that_is_not_finite_stops_with_the_reason(make_trainer: Make, where: str, reason: str) -> None:
    trainer = make_trainer(NAME)
    trainer.initialize()
    batch = {"data": torch.randn(2, 1, 16, 32, 32), "target": torch.zeros(2, 1, 16, 32, 32)}
    trainer.train_step(batch)
    if where == "data":
        batch["data"][0, 0, 0, 0, 0] = torch.nan
    elif where == "weights":
        with torch.no_grad():
            next(iter(trainer.network.parameters())).fill_(torch.inf)
    else:
        trainer.loss = lambda output, target: output.sum() * torch.inf
    with pytest.raises(RuntimeError, match=f"epoch 0, iteration 1: .*{reason}"):
        trainer.train_step(batch)


@pytest.mark.parametrize("fold", [5, -1])
def test_a_fold_beyond_the_default_splits_is_refused(make_trainer: Make, fold: int) -> None:
    with pytest.raises(ValueError, match=rf"no fold {fold}: .*splits_final.json has folds 0\.\.4"):
        make_trainer(NAME, fold=fold).do_split()


def test_a_fold_beyond_a_split_file_is_refused(make_trainer: Make, blobs: Path) -> None:
    cases = [f"case_{number}" for number in range(5)]
    split = blobs / "nnUNet_preprocessed" / "Dataset917_Blobs" / "splits_final.json"
    split.write_text(json.dumps([{"train": cases[:4], "val": cases[4:]}]))
    assert make_trainer(NAME, fold=0).do_split() == (cases[:4], cases[4:])
    assert make_trainer(NAME, fold="all").do_split() == (cases, cases)
    with pytest.raises(ValueError, match=r"has folds 0\. Use one, or 'all'"):
        make_trainer(NAME, fold=1).do_split()


def test_the_network_learns_the_blobs(make_trainer: Make) -> None:
    trainer = make_trainer("nnUNetTrainerUNETR_Tiny_4epochs_seed0")
    trainer.num_iterations_per_epoch = 20
    losses = train(trainer)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.2


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize("architecture", ["original", "FPN", "Modified"])
def test_outputs_and_targets_have_the_same_scales(make_trainer: Make, architecture: str) -> None:
    token = "" if architecture == "original" else f"_{architecture}"
    trainer = make_trainer(f"nnUNetTrainerUNETR{token}_Tiny_2epochs_seed0")
    trainer.initialize()
    training, _ = trainer.get_dataloaders()
    batch = next(training)
    outputs = trainer.network(batch["data"])
    several = architecture != "original"
    assert isinstance(outputs, list) is isinstance(batch["target"], list) is several
    if several:
        assert [x.shape[2:] for x in outputs] == [x.shape[2:] for x in batch["target"]]
        assert len(outputs) == 4
    trainer.on_train_epoch_start()
    assert np.isfinite(trainer.train_step(batch)["loss"])
    assert np.isfinite(trainer.validation_step(batch)["loss"])
    trainer.set_deep_supervision_enabled(False)
    assert trainer.network(batch["data"]).shape == (2, 3, 16, 32, 32)


@pytest.mark.usefixtures("no_workers")
def test_a_policy_takes_the_place_of_nnunets_augmentation(make_trainer: Make) -> None:
    trainer = make_trainer("nnUNetTrainerUNETR_Tiny_StrongAug_NoLRFlip")
    trainer.initialize()
    training, _ = trainer.get_dataloaders()
    loader = training.data_loader
    used = [type(getattr(each, "transform", each)).__name__ for each in loader.transforms.transforms]
    assert used == [
        *["MirrorTransform"] * 2,
        "Rot90Transform",
        "MultiplicativeBrightnessTransform",
        "BrightnessAdditiveTransform",
        "ComposeTransforms",
    ]
    assert tuple(loader.patch_size) == (16, 32, 32)
    assert next(training)["data"].shape == (2, 1, 16, 32, 32)
    assert trainer.inference_allowed_mirroring_axes == (0, 1)


@pytest.mark.usefixtures("no_workers")
def test_without_augmentation_nothing_is_mirrored(make_trainer: Make) -> None:
    trainer = make_trainer("nnUNetTrainerUNETR_Tiny_NoAug")
    trainer.initialize()
    trainer.get_dataloaders()
    assert trainer.inference_allowed_mirroring_axes is None


def test_plans_that_name_our_network_decide_on_the_token(make_trainer: Make) -> None:
    planned = {
        "network_class_name": PLANNED_NETWORK,
        "arch_kwargs": {"token_size": [2, 8, 8]},
        "_kw_requires_import": [],
    }
    trainer = make_trainer("nnUNetTrainerUNETR_Tiny", architecture=planned)
    trainer.initialize()
    assert trainer.network.stem.token_size == (2, 8, 8)
