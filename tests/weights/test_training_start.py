import json
from copy import deepcopy

import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from tests.weights.monai_unetr import HEADS, WINDOW, in_layout, make_unetr
from unetr_nnunet.trainers.factory import trainer_class
from unetr_nnunet.weights.imported_model import imported_plans
from unetr_nnunet.weights.released_unetr import recognise
from unetr_nnunet.weights.training_start import write_training_start


@pytest.fixture(scope="module")
def monai_unetr():
    return make_unetr()


@pytest.fixture
def released(monai_unetr):
    return recognise(in_layout(monai_unetr.state_dict(), "0.6.0-conv"), "released.pth", heads=HEADS, window=WINDOW)


@pytest.fixture
def write_plans(released, tmp_path):
    """Write plans as nnU-Net's own planner does, with changes to the configuration 3d_fullres."""

    def write(transpose_forward=(0, 1, 2), **changes):
        plans = deepcopy(imported_plans(released, "Dataset917_Blobs"))
        plans |= {"plans_name": "nnUNetPlans", "transpose_forward": list(transpose_forward)}
        configuration = plans["configurations"]["3d_fullres"]
        configuration["architecture"] = {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {"n_stages": 6},
            "_kw_requires_import": [],
        }
        configuration.update({"patch_size": [48, 64, 32], **changes})
        plans["configurations"]["2d"] = {**configuration, "patch_size": [64, 64]}
        (tmp_path / "nnUNetPlans.json").write_text(json.dumps(plans))
        return tmp_path / "nnUNetPlans.json"

    return write


def stock_network(start, labels=14, seed=5):
    """The network that nnU-Net's training builds for the plans, with the start's weights loaded by nnU-Net."""
    plans = PlansManager(str(start.plans_file))
    torch.manual_seed(seed)
    network = trainer_class("nnUNetTrainerUNETR").build_network_architecture(
        plans, plans.get_configuration("3d_fullres"), 1, labels, False
    )
    load_pretrained_weights(network, str(start.weights))
    return network.eval()


@pytest.mark.parametrize("transpose_forward", [(0, 1, 2), (1, 0, 2), (2, 0, 1)], ids=str)
def test_on_the_released_window_the_network_is_the_released_one(
    monai_unetr, released, write_plans, tmp_path, transpose_forward
):
    reader_axes = WINDOW[::-1]  # (z, y, x)
    plans = write_plans(transpose_forward, patch_size=[reader_axes[axis] for axis in transpose_forward])
    start = write_training_start(released, "released.pth", plans, "3d_fullres", tmp_path / "start.pth")
    network = stock_network(start)
    network.decoder.seg_layers.load_state_dict(
        {"0.weight": released.weights["decoder.seg_layers.0.weight"], "0.bias": monai_unetr.out.conv.conv.bias}
    )
    window = torch.rand(1, 1, *WINDOW)  # (1, 1, x, y, z)
    axes = (0, 1, *(4 - axis for axis in transpose_forward))
    with torch.inference_mode():
        torch.testing.assert_close(network(window.permute(axes)), monai_unetr(window).permute(axes), rtol=0, atol=1e-3)


def test_another_patch_and_other_labels(released, write_plans, tmp_path):
    start = write_training_start(released, "released.pth", write_plans(), "3d_fullres", tmp_path / "start.pth")
    assert start.grid == (3, 4, 2)
    loaded, fresh = stock_network(start, labels=5, seed=1), stock_network(start, labels=5, seed=2)
    head = "decoder.seg_layers."
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[name]) != name.startswith(head), name
    logits = loaded(torch.rand(1, 1, 48, 64, 32))
    assert logits.shape == (1, 5, 48, 64, 32)
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())
    assert loaded.transformer.taps == (4, 7, 10)


def test_plans_are_copied_with_the_network_only(released, write_plans, tmp_path):
    plans_file = write_plans()
    before = plans_file.read_text()
    start = write_training_start(released, "released.pth", plans_file, "3d_fullres", tmp_path / "start.pth")
    assert plans_file.read_text() == before
    assert start.plans_file == tmp_path / "nnUNetPlans_UNETRImported.json"
    assert (start.dataset_name, start.reader) == ("Dataset917_Blobs", "NibabelIOWithReorient")
    old, new = json.loads(before), json.loads(start.plans_file.read_text())
    assert new["plans_name"] == "nnUNetPlans_UNETRImported"
    assert new["configurations"]["3d_fullres"].pop("architecture")["arch_kwargs"]["token_size"] == [16, 16, 16]
    old["configurations"]["3d_fullres"].pop("architecture")
    assert {**new, "plans_name": "nnUNetPlans"} == old, "the preprocessed data is shared"


def test_plans_that_name_the_network_are_used_as_they_are(released, tmp_path):
    plans_file = tmp_path / "UNETRImportedPlans.json"
    plans_file.write_text(json.dumps(imported_plans(released, "Dataset017_BTCV")))
    start = write_training_start(released, "released.pth", plans_file, "3d_fullres", tmp_path / "start.pth")
    assert start.plans_file == plans_file
    assert sorted(path.name for path in tmp_path.iterdir()) == ["UNETRImportedPlans.json", "start.pth"]
    stock_network(start)


@pytest.mark.parametrize(
    ("changes", "configuration", "fact"),
    [
        (
            {"patch_size": [14, 64, 64]},
            "3d_fullres",
            r"3d_fullres in \S+ has tokens of 2 x 16 x 16 voxels at a patch of 14 x 64 x 64, .*such as 16 x 64 x 64 \(",
        ),
        (
            {
                "patch_size": [40, 64, 32],
                "architecture": {
                    "network_class_name": "unetr_nnunet.architectures.build.build_unetr",
                    "arch_kwargs": {"token_size": [4, 16, 16]},
                    "_kw_requires_import": [],
                },
            },
            "3d_fullres",
            r"has tokens of 4 x 16 x 16 voxels at a patch of 40 x 64 x 32, .* 48 x 64 x 32 \(unetr_nnunet plan",
        ),
        ({}, "2d", "is 2-D, and the UNETR in released.pth is 3-D: .*-c"),
        ({}, "3d_lowres", r"has no configuration 3d_lowres: choose one of 3d_fullres, 2d with -c"),
        ({"normalization_schemes": ["CTNormalization"] * 2}, "3d_fullres", "has 2 image channels, and .* takes 1"),
    ],
    ids=["patch", "token", "2d", "no configuration", "channels"],
)
def test_plans_of_another_network_are_refused(released, write_plans, tmp_path, changes, configuration, fact):
    plans_file = write_plans(**changes)
    with pytest.raises(ValueError, match=fact) as error:
        write_training_start(released, "released.pth", plans_file, configuration, tmp_path / "start.pth")
    assert str(plans_file) in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == [plans_file]


@pytest.mark.parametrize("content", ["no json", "[]", '{"plans_per_stage": {}}', '{"configurations": {}}'])
def test_files_that_are_no_plans_are_refused(released, tmp_path, content):
    (tmp_path / "plans.json").write_text(content)
    facts = r"plans.json (is damaged|is not a plans file|has no plans_name, dataset_name).*[:;] (give|plan)"
    with pytest.raises(ValueError, match=facts):
        write_training_start(released, "released.pth", tmp_path / "plans.json", "3d_fullres", tmp_path / "start.pth")


@pytest.mark.parametrize("entry", [{}, {"patch_size": [64] * 3}, {"inherits_from": "none"}])
def test_a_configuration_of_another_version_is_refused(released, write_plans, tmp_path, entry):
    plans_file = write_plans()
    content = json.loads(plans_file.read_text())
    content["configurations"]["3d_fullres"] = entry
    plans_file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"3d_fullres in \S+ is no configuration of this nnU-Net .*: plan .* again"):
        write_training_start(released, "released.pth", plans_file, "3d_fullres", tmp_path / "start.pth")
    assert list(tmp_path.iterdir()) == [plans_file]


def test_missing_plans(released, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.json: there is no such file"):
        write_training_start(released, "released.pth", tmp_path / "none.json", "3d_fullres", tmp_path / "start.pth")


def test_existing_files_are_kept_or_replaced(released, write_plans, tmp_path):
    plans_file = write_plans()
    start = write_training_start(released, "released.pth", plans_file, "3d_fullres", tmp_path / "start.pth")
    start.weights.unlink()
    with pytest.raises(FileExistsError, match=r"nnUNetPlans_UNETRImported.json exists already"):
        write_training_start(released, "released.pth", plans_file, "3d_fullres", tmp_path / "start.pth")
    assert not start.weights.exists()
    start.weights.write_text("mine")
    start.plans_file.unlink()
    with pytest.raises(FileExistsError, match=r"start.pth exists already"):
        write_training_start(released, "released.pth", plans_file, "3d_fullres", tmp_path / "start.pth")
    assert start.weights.read_text() == "mine"
    start = write_training_start(
        released, "released.pth", plans_file, "3d_fullres", tmp_path / "start.pth", overwrite=True
    )
    stock_network(start)
