import pytest
import torch

from unetr_nnunet.architectures.build import build_unetr
from unetr_nnunet.architectures.networks import network, patch_multiple
from unetr_nnunet.architectures.presets import ARCHITECTURES, SIZES
from unetr_nnunet.architectures.registry import load

SPACING = (3.0, 0.8, 0.8)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_registered_network_is_the_presets(name):
    registered = load(name)
    assert list(registered.sizes) == list(SIZES)
    assert registered.default_size == "base"
    for size in SIZES:
        with torch.device("meta"):
            theirs = build_unetr((16, 64, 64), SPACING, 2, 3, architecture=name, size=size)
            ours = network(name, (16, 64, 64), SPACING, size=size).build(2, 3)
        assert {key: value.shape for key, value in ours.state_dict().items()} == {
            key: value.shape for key, value in theirs.state_dict().items()
        }


def test_only_the_pyramid_has_several_outputs():
    several = {name for name in ARCHITECTURES if network(name, (16, 64, 64), SPACING).output_scales}
    assert several == {name for name, variant in ARCHITECTURES.items() if "FPN" in variant.parts}


def test_patches_are_whole_tokens():
    assert patch_multiple(load("Modified"), SPACING) == (4, 16, 16)
