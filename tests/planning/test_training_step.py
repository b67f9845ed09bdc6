from dataclasses import replace

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss

from tests.conftest import DATASET
from unetr_nnunet.planning.training_step import TrainingStep, autocast

STEP = TrainingStep("Modified", "Tiny", (8, 32, 32), 2, (3.0, 0.8, 0.8), (2, 8, 8), 1, 3)


def test_the_step_is_the_trainers(make_trainer):
    """Network, loss and batch are those that the trainer builds for the same plans."""
    architecture = {
        "network_class_name": "unetr_nnunet.architectures.build.build_unetr",
        "arch_kwargs": {"token_size": [4, 8, 8]},
        "_kw_requires_import": [],
    }
    trainer = make_trainer("nnUNetTrainerUNETR_Modified_Tiny", architecture=architecture)
    trainer.initialize()
    assert trainer.dataset_json["labels"].keys() == {"background", "bright", "dark"}, DATASET
    spacing_mm = tuple(trainer.configuration_manager.spacing)
    step = TrainingStep("Modified", "Tiny", (16, 32, 32), 2, spacing_mm, (4, 8, 8), 1, 3)
    network = step.build_network()
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in trainer.network.state_dict().items()}
    data, target = step.make_batch(torch.device("cpu"))
    training, _ = trainer.get_dataloaders()
    theirs = next(training)
    assert (data.shape, data.dtype) == (theirs["data"].shape, theirs["data"].dtype)
    assert [(scale.shape, scale.dtype) for scale in target] == [
        (scale.shape, scale.dtype) for scale in theirs["target"]
    ]
    loss = step.build_loss()
    random = [torch.randn(2, 3, *scale.shape[2:]) for scale in target]
    weights = sum(loss.loss.weight_factors)  # nnU-Net's add up to one
    assert loss(random, target).item() / weights == pytest.approx(trainer.loss(random, target).item(), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "kind", "target_channels"),
    [
        ({}, DC_and_CE_loss, 1),
        ({"ignore_label": True}, DC_and_CE_loss, 1),
        ({"regions": True}, DC_and_BCE_loss, 3),
        ({"regions": True, "ignore_label": True}, DC_and_BCE_loss, 4),
    ],
)
def test_the_loss_follows_the_labels(changes, kind, target_channels):
    step = replace(STEP, architecture="original", **changes)
    network = step.build_network()
    loss = step.build_loss()
    assert type(loss.loss) is kind
    data, target = step.make_batch(torch.device("cpu"))
    assert target.shape == (2, target_channels, 8, 32, 32)
    assert torch.isfinite(loss(network(data), target))


def test_the_pyramids_logits_have_a_target_each():
    network = STEP.build_network()
    data, target = STEP.make_batch(torch.device("cpu"))
    assert [scale.shape[2:] for scale in target] == [scale.shape[2:] for scale in network(data)]


def test_autocast_works_without_the_device_and_ends():
    before = torch.get_autocast_dtype("cpu")
    with autocast("cpu", torch.float16):
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == torch.float16
    assert not torch.is_autocast_enabled("cpu")
    assert torch.get_autocast_dtype("cpu") == before
    with autocast("cpu", None):
        assert not torch.is_autocast_enabled("cpu")
