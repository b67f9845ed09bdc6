import sys

import pytest
import torch
from monai.networks import nets

from unetr_nnunet.architectures import registry
from unetr_nnunet.architectures.networks import network, patch_multiple, set_deep_supervision

NAMES = ("SwinUNETR", "SegResNetDS", "MedNeXt")


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (5.0, 0.7, 0.7), (1.0, 4.2, 2.1), (1.0, 1.0)])
def test_segresnet_takes_the_patches_that_monai_takes(spacing):
    multiple = patch_multiple(registry.load("SegResNetDS"), spacing)
    described = network("SegResNetDS", [2 * step for step in multiple], spacing)
    with torch.device("meta"):
        built = described.build(1, 2, deep_supervision=True)
    assert tuple(built.network.shape_factor()) == multiple
    assert len(described.output_scales) == built.network.dsdepth == 4


@pytest.mark.parametrize("name", ["SegResNetDS", "MedNeXt"])
def test_outputs_are_monais_in_training_and_evaluation(name):
    described = network(name, (32, 32), (1.0, 1.0), size="S" if name == "MedNeXt" else "base")
    torch.manual_seed(0)
    built = described.build(1, 3, deep_supervision=True)
    image = torch.randn(2, 1, 32, 32)
    built.network.train()
    with torch.no_grad():
        expected = built.network(image)
        for training in (True, False):
            outputs = built.train(training)(image)
            assert [torch.equal(*pair) for pair in zip(outputs, expected, strict=True)] == [True] * len(expected)
            set_deep_supervision(built, False)
            assert torch.equal(built(image), expected[0])
            set_deep_supervision(built, True)


def test_no_layer_but_the_outermost_knows_training_from_evaluation():
    """As `_with_switch` says."""
    for built in (nets.SegResNetDS(2, norm="instance", dsdepth=4), nets.MedNeXt(2, deep_supervision=True)):
        kinds = {type(module).__name__.lower() for module in built.modules()}
        assert not [kind for kind in kinds if "drop" in kind or "batch" in kind]
        tracked = [module for module in built.modules() if getattr(module, "track_running_stats", False)]
        assert not tracked


@pytest.mark.parametrize("name", NAMES)
def test_monai_that_is_missing_is_named(name, monkeypatch):
    described = registry.load(name)
    monkeypatch.setitem(sys.modules, "monai.networks", None)
    with pytest.raises(ValueError, match=r"the network is MONAI's .*: pip install monai"):
        network(described.name, (64, 64, 64), (1.0, 1.0, 1.0)).build(1, 2)
