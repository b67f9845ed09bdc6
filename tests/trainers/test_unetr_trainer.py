import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from unetr_nnunet.architectures.planned import architecture_entry
from unetr_nnunet.trainers import unetr_trainer
from unetr_nnunet.trainers.names import TrainerName
from unetr_nnunet.trainers.recipes import RECIPES
from unetr_nnunet.trainers.unetr_trainer import nnUNetTrainerUNETR

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


class NoValues(TorchDispatchMode):
    """Refuses to read a tensor's value, which ``if`` and ``.item()`` do, and for which a host waits for its GPU."""

    def __torch_dispatch__(self, called: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        if called in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            raise AssertionError(f"{called} waits for the device")
        return called(*given, **(named or {}))


def test_a_training_step_never_waits_for_the_device(make_trainer: Make) -> None:
    trainer = make_trainer("nnUNetTrainerUNETR_Modified_Tiny_seed0")
    trainer.initialize()
    scales = trainer.output_scales
    sizes = [[round(axis * part) for axis, part in zip((16, 32, 32), scale, strict=True)] for scale in scales]
    batch = {"data": torch.randn(2, 1, 16, 32, 32), "target": [torch.zeros(2, 1, *size) for size in sizes]}
    with NoValues():
        for _ in range(3):
            trainer.optimisation_step(batch)
        with pytest.raises(AssertionError, match="waits for the device"):
            bool(torch.isfinite(batch["data"].sum()))


def test_a_gpu_takes_its_precision_from_the_environment(make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(NAME)
    trainer.device, trainer.grad_scaler = torch.device("cuda", 0), torch.amp.GradScaler("cpu")
    trainer.configure()
    assert trainer.autocast_dtype == torch.float16
    assert trainer.grad_scaler is not None
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setenv("UNETR_NNUNET_PRECISION", "bfloat16")
    trainer.configure()
    assert trainer.autocast_dtype == torch.bfloat16
    assert trainer.grad_scaler is None, "a checkpoint then holds no scaler, and nnU-Net loads none"
    monkeypatch.setenv("UNETR_NNUNET_PRECISION", "half")
    with pytest.raises(ValueError, match="float16 or bfloat16"):
        make_trainer(NAME)


def test_step_and_validation_compute_in_the_precision(make_trainer: Make) -> None:
    trainer = make_trainer(NAME)
    trainer.initialize()
    trainer.autocast_dtype = torch.float16  # slow on a CPU, hence the small network
    trainer.network = torch.nn.Conv3d(1, 3, 1)
    trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
    seen: list[torch.dtype] = []
    trainer.network.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    batch = {"data": torch.randn(2, 1, 16, 32, 32), "target": torch.zeros(2, 1, 16, 32, 32)}
    trainer.train_step(batch)
    trainer.validation_step(batch)
    assert seen == [torch.float16, torch.float16]


def test_the_validation_cases_are_predicted_with_onednns_convolutions(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nnU-Net gives the network one window at a time, whose convolutions PyTorch would compute slowly."""
    called: set[str] = set()

    def validation(trainer: Any, save_probabilities: bool) -> None:
        with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as profiled:
            torch.nn.Conv3d(1, 3, 3)(torch.randn(1, 1, 8, 8, 8))
        called.update(event.key for event in profiled.key_averages())

    monkeypatch.setattr(nnUNetTrainer, "perform_actual_validation", validation)
    make_trainer(NAME).perform_actual_validation()
    assert "aten::mkldnn_convolution" in called
    assert "aten::slow_conv3d_forward" not in called


def spoil(trainer: Any, bad: set[int]) -> None:
    """Make the loss infinite at these iterations."""
    if not trainer.was_initialized:
        trainer.initialize()
    loss = trainer.loss
    trainer.loss = lambda *given: loss(*given) * (torch.inf if trainer.iteration in bad else 1.0)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_skipped_step_is_logged_with_its_cases_and_changes_nothing(make_trainer: Make, scaled: bool) -> None:
    trainer = make_trainer(NAME + "_seed1")
    trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=4.0) if scaled else None
    spoil(trainer, {1, 3, 6})
    weights: list[dict[str, torch.Tensor]] = []
    cases: list[list[str]] = []
    step = trainer.optimisation_step

    def watched(batch: dict[str, Any]) -> dict[str, Any]:
        weights.append({name: value.clone() for name, value in trainer.network.state_dict().items()})
        cases.append(batch["keys"])
        return step(batch)

    trainer.optimisation_step = watched
    trainer.run_training()
    for number in (1, 3, 6):
        torch.testing.assert_close(weights[number], weights[number + 1], rtol=0, atol=0)
    assert not torch.equal(weights[2]["stem.projection.weight"], weights[3]["stem.projection.weight"])
    log = Path(trainer.log_file).read_text()
    for number, name in ((1, "Epoch 0, iteration 1"), (3, "Epoch 0, iteration 3"), (6, "Epoch 1, iteration 2")):
        assert f"{name} was skipped, loss inf, cases {', '.join(cases[number])}: the network's output over" in log
    assert log.count("was skipped") == 3
    assert log.count("train_loss is the mean of the 2 of 4 losses that are finite") == 1
    assert log.count("train_loss is the mean of the 3 of 4 losses that are finite") == 1
    assert np.isfinite(trainer.logger.get_value("train_losses", None)).all()
    assert "Training in float32 on cpu." in log


@pytest.mark.parametrize("bad", [{2, 3, 4}, {5, 6, 7}], ids=["within an epoch", "at its end"])
def test_a_stopped_run_goes_on_past_the_batches_that_stopped_it(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch, bad: set[int]
) -> None:
    def train_on(trainer: Any) -> Any:
        trainer.num_iterations_per_epoch = 8
        spoil(trainer, bad)
        trainer.run_training()
        return trainer

    monkeypatch.setattr(unetr_trainer, "MOST_SKIPPED", 100)
    patient = train_on(make_trainer(NAME + "_seed1"))
    monkeypatch.setattr(unetr_trainer, "MOST_SKIPPED", 3)
    stopped = make_trainer(NAME + "_seed1")
    with pytest.raises(RuntimeError, match=rf"iteration {max(bad)}: this is the 3th step in a row .* --c goes on"):
        train_on(stopped)
    resumed = make_trainer(NAME + "_seed1")
    resumed.load_checkpoint(str(Path(stopped.output_folder) / "checkpoint_latest.pth"))
    assert resumed.iteration > max(bad)
    train_on(resumed)
    torch.testing.assert_close(resumed.network.state_dict(), patient.network.state_dict(), rtol=0, atol=0)
    for key in ("train_losses", "val_losses"):
        assert resumed.logger.get_value(key, None) == patient.logger.get_value(key, None)


def test_twenty_steps_in_a_row_stop_with_the_likely_reason(make_trainer: Make) -> None:
    trainer = make_trainer(NAME)
    trainer.initialize()
    trainer.num_iterations_per_epoch = 50
    good = {"data": torch.randn(2, 1, 16, 32, 32), "target": torch.zeros(2, 1, 16, 32, 32), "keys": ["a", "b"]}
    bad = good | {"data": good["data"].clone()}
    bad["data"][0, 0, 0, 0, 0] = torch.nan
    for batch in [bad] * 19 + [good] + [bad] * 20:
        trainer.train_step(batch)
    with pytest.raises(RuntimeError, match=r"iteration 39: .* the batch holds NaN .* check the preprocessed images"):
        trainer.train_step(good)
    saved = torch.load(Path(trainer.output_folder) / "checkpoint_latest.pth", weights_only=False)
    assert len(saved["finished_steps"]) == 41


def test_weights_that_are_not_finite_stop_at_once_and_are_not_saved(make_trainer: Make) -> None:
    trainer = make_trainer(NAME)
    trainer.initialize()
    with torch.no_grad():
        next(iter(trainer.network.parameters())).fill_(torch.inf)
    batch = {"data": torch.randn(2, 1, 16, 32, 32), "target": torch.zeros(2, 1, 16, 32, 32), "keys": ["a", "b"]}
    trainer.train_step(batch)
    with pytest.raises(RuntimeError, match="Epoch 0, iteration 0: the weights are not finite"):
        trainer.train_step(batch)
    assert not list(Path(trainer.output_folder).glob("*.pth"))


def test_a_seed_leaves_the_speed_of_cudnn_alone(make_trainer: Make) -> None:
    """Deterministic convolutions are slower and make no run on a GPU repeat: attention and interpolation do not."""
    trainer = make_trainer(NAME + "_seed0")
    trainer.initialize()
    with torch.backends.cudnn.flags(benchmark=True, deterministic=False):
        trainer.get_dataloaders()
        assert torch.backends.cudnn.benchmark
        assert not torch.backends.cudnn.deterministic


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


@pytest.mark.slow
def test_the_network_learns_the_blobs(make_trainer: Make) -> None:
    trainer = make_trainer("nnUNetTrainerUNETR_Tiny_4epochs_seed0")
    trainer.num_iterations_per_epoch = 20
    losses = train(trainer)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.2


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
        assert len(outputs) == (3 if architecture == "Modified" else 4), "one for each stage, with 8-voxel tokens three"
    trainer.on_train_epoch_start()
    assert trainer.train_step(batch)["loss"].isfinite()
    assert np.isfinite(trainer.validation_step(batch)["loss"])
    trainer.set_deep_supervision_enabled(False)
    assert trainer.network(batch["data"]).shape == (2, 3, 16, 32, 32)


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


def test_without_augmentation_nothing_is_mirrored(make_trainer: Make) -> None:
    trainer = make_trainer("nnUNetTrainerUNETR_Tiny_NoAug")
    trainer.initialize()
    trainer.get_dataloaders()
    assert trainer.inference_allowed_mirroring_axes is None


def test_plans_that_name_our_network_decide_on_the_token(make_trainer: Make) -> None:
    planned = architecture_entry("original", token_size=[2, 8, 8])
    trainer = make_trainer("nnUNetTrainerUNETR_Tiny", architecture=planned)
    trainer.initialize()
    assert trainer.network.stem.token_size == (2, 8, 8)


@pytest.mark.parametrize(
    ("name", "outputs"), [("nnUNetTrainerNet_Pyramid_Slim_Baseline_1epochs_seed1", 2), ("nnUNetTrainerNet_Line", 1)]
)
def test_another_packages_network_trains(otherlab: None, make_trainer: Make, name: str, outputs: int) -> None:
    trainer = make_trainer(name)
    trainer.initialize()
    training, _ = trainer.get_dataloaders()
    batch = next(training)
    assert (len(batch["target"]) if isinstance(batch["target"], list) else 1) == outputs
    before = trainer.train_step(batch)["loss"]
    for _ in range(3):
        after = trainer.train_step(batch)["loss"]
    assert after < before
    trainer.set_deep_supervision_enabled(False)
    assert trainer.network(batch["data"]).shape == (2, 3, 16, 32, 32)
    assert str(trainer.planned_network) == f"{name.split('_')[1]} (otherlab 1.2)"


def test_an_output_that_is_not_the_architectures_stops_the_training(otherlab: None, make_trainer: Make) -> None:
    trainer = make_trainer("nnUNetTrainerNet_Line")
    trainer.initialize()
    training, _ = trainer.get_dataloaders()
    trainer.network = torch.nn.Conv3d(1, 3, 3)
    with pytest.raises(
        ValueError, match=r"Line \(otherlab 1\.2\) returns \(2, 3, 14, 30, 30\) for a patch of 16 x 32 x 32"
    ):
        trainer.train_step(next(training))


def test_a_patch_that_does_not_suit_is_refused_before_the_training(otherlab: None, make_trainer: Make) -> None:
    with pytest.raises(ValueError, match="patch 20 x 32 x 32 is no multiple of 8 x 16 x 16"):
        make_trainer("nnUNetTrainerNet_Line", patch_size=[20, 32, 32])


def test_a_subclass_may_build_a_network_of_its_own(make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    class nnUNetTrainerMine(nnUNetTrainerUNETR):  # noqa: N801 - as nnU-Net's are called
        settings = TrainerName(recipe="Paper", seed=2)

        @classmethod
        def build_network_architecture(cls, plans_manager: Any, *others: Any) -> torch.nn.Module:
            return torch.nn.Conv3d(1, 3, 3, padding=1)

    monkeypatch.setattr("unetr_nnunet.trainers.factory.trainer_class", lambda name: nnUNetTrainerMine)
    trainer = make_trainer("nnUNetTrainerMine")
    trainer.initialize()
    training, _ = trainer.get_dataloaders()
    assert torch.isfinite(trainer.train_step(next(training))["loss"])
    trainer.set_deep_supervision_enabled(False)
    assert trainer.planned_network is None
    assert trainer.recipe == RECIPES["Paper"]
