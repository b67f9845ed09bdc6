import numpy as np
import pytest
import torch
from torch import nn

from unetr_nnunet.architectures.architecture import Architecture
from unetr_nnunet.architectures.networks import (
    Network,
    WrongOutputError,
    network,
    patch_multiple,
    set_deep_supervision,
)

pytestmark = pytest.mark.usefixtures("otherlab")
SPACING = (1.0, 1.0, 1.0)
PATCH = (16, 16, 16)


def made(**changes):
    """Return a network of an architecture that is not registered."""
    fields = {
        "name": "Net",
        "build": lambda **given: nn.Conv3d(1, 2, 1),
        "patch_multiple": lambda spacing_mm: (4, 4, 4),
        "sizes": {"base": {}},
        "reference": "me",
    }
    return Network(Architecture(**fields | changes), PATCH, SPACING)


def test_a_registered_network_is_built_for_patch_channels_and_size():
    slim = network("Pyramid", (8, 16), (1.0, 1.0), size="Slim").build(3, 5)
    assert slim(torch.zeros(2, 3, 8, 16)).shape == (2, 5, 8, 16)
    base = network("Pyramid", (8, 16), (1.0, 1.0)).build(3, 5)
    assert base.fine[0].weight.shape[0] == 12
    assert slim.fine[0].weight.shape[0] == 4


def test_deep_supervision_is_switched():
    described = network("Pyramid", (8, 16, 32), SPACING)
    assert described.output_scales == ((1, 1, 1), (0.5, 0.5, 0.5))
    several = described.build(1, 2, deep_supervision=True)
    image = torch.zeros(1, 1, 8, 16, 32)
    described.check_output(several(image), 1, 2, deep_supervision=True)
    assert [tuple(scale.shape[2:]) for scale in several(image)] == [(8, 16, 32), (4, 8, 16)]
    set_deep_supervision(several, False)
    described.check_output(several(image), 1, 2, deep_supervision=False)
    assert network("Line", (8, 16, 16), SPACING).output_scales is None


def test_ours_are_built_through_the_same_door():
    described = network("Modified", (16, 32, 32), (3.0, 1.0, 1.0), size="Tiny", planned={"token_size": [4, 16, 16]})
    assert described.output_scales == ((1, 1, 1), (1, 0.5, 0.5), (1, 0.25, 0.25), (0.5, 0.125, 0.125))
    outputs = described.build(1, 3, deep_supervision=True)(torch.zeros(1, 1, 16, 32, 32))
    described.check_output(outputs, 1, 3, deep_supervision=True)
    without = network("original", (16, 16, 16), SPACING, size="Tiny", no_transformer=True).build(1, 3)
    assert all(isinstance(block, nn.Identity) for block in without.transformer.blocks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Line", (16, 16), (1.0, 1.0)), r"Line \(otherlab 1\.2\) takes 3-D patches, and this one is 2-D"),
        (
            ("Line", (12, 40, 32), SPACING),
            "patch 12 x 40 x 32 is no multiple of 8 x 16 x 16: plan .*, or take .* such as 8 x 32 x 32 or 16 x 48 x 32",
        ),
        (("Line", (4, 16, 16), SPACING), "such as 8 x 16 x 16$"),
    ],
)
def test_a_patch_that_does_not_suit_is_refused_with_the_nearest(arguments, message):
    with pytest.raises(ValueError, match=message):
        network(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "Huge"}, r"Pyramid \(otherlab 1\.2\) has no size 'Huge': choose one of base, Slim"),
        ({"no_transformer": True}, "has no control without its transformer"),
        ({"planned": {"token_size": [8, 8, 8]}}, "the plans hold token_size, which Pyramid .* does not take"),
        ({"planned": {"size": {"width": 99}}}, "the plans hold size, which"),
        ({"planned": {"size": None}}, "the plans' size is None, no name and no fields"),
        ({"planned": {"weights": "/etc/passwd"}}, "the plans hold weights, which"),
    ],
)
def test_what_the_architecture_does_not_take_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        network("Pyramid", PATCH, SPACING, **options)


def raising(**given):
    raise RuntimeError("no such kernel")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (raising, "Net cannot be built for patch 16 x 16 x 16 and 1 channels: RuntimeError: no such kernel"),
        (lambda in_channels: None, "Net cannot be built .*: TypeError: .*unexpected keyword"),
        (lambda **given: "network", "its builder returns a str, no torch.nn.Module"),
    ],
)
def test_a_builder_that_fails_is_told_in_one_line(build, message):
    with pytest.raises(ValueError, match=message) as caught:
        made(build=build).build(1, 2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "scales",
    [
        [[1, 1, 1], [0.5, 0.5]],
        [[0.5, 0.5, 0.5], [0.25, 0.25, 0.25]],
        [[1, 1, 1], [1 / 3, 1 / 3, 1 / 3]],
        [[1, 1, 1], [0.25, 0.25, 0.25], [0.5, 0.5, 0.5]],
        [[1, 1, 1], [0, 0, 0]],
    ],
    ids=str,
)
def test_scales_that_do_not_fit_are_refused(scales):
    described = made(output_scales=lambda **given: scales)
    with pytest.raises(ValueError, match=r"Net gives deep-supervision scales that do not fit patch 16 x 16 x 16"):
        _ = described.output_scales


def test_a_network_whose_outputs_cannot_be_switched_is_refused():
    described = made(output_scales=lambda **given: [[1, 1, 1], [0.5, 0.5, 0.5]])
    with pytest.raises(ValueError, match="neither the network nor its decoder has an attribute deep_supervision"):
        described.build(1, 2)


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (torch.zeros(1, 2, 96, 96, 96), r"\(1, 2, 96, 96, 96\)"),
        (torch.zeros(1, 3, 16, 16, 16), r"\(1, 3, 16, 16, 16\)"),
        ({"out": 1}, "a dict"),
    ],
)
def test_another_output_than_agreed_is_refused(output, shown):
    message = rf"Net returns {shown} for a patch of 16 x 16 x 16, where its architecture says \(1, 2, 16, 16, 16\)"
    with pytest.raises(WrongOutputError, match=message):
        made().check_output(output, 1, 2, deep_supervision=False)


def test_the_number_of_outputs_is_compared():
    described = network("Pyramid", PATCH, SPACING)
    with pytest.raises(
        WrongOutputError, match=r"returns \[\(1, 2, 16, 16, 16\)\] .* says \[\(1, .*, \(1, 2, 8, 8, 8\)\]"
    ):
        described.check_output([torch.zeros(1, 2, *PATCH)], 1, 2, deep_supervision=True)
    with pytest.raises(WrongOutputError, match="returns a list"):
        described.check_output([torch.zeros(1, 2, *PATCH)], 1, 2, deep_supervision=False)


@pytest.mark.parametrize("given", [(4, 4), 4, (0, 4, 4), (4.0, 4, 4)])
def test_a_multiple_that_is_none_is_refused(given):
    architecture = made().architecture
    with pytest.raises(ValueError, match=r"its patch_multiple gives .*; it must give a positive whole number"):
        patch_multiple(Architecture(**vars(architecture) | {"patch_multiple": lambda spacing_mm: given}), SPACING)


def test_a_multiple_may_be_numpys():
    architecture = made(patch_multiple=lambda spacing_mm: (np.int64(4),) * 3).architecture
    assert patch_multiple(architecture, SPACING) == (4, 4, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_multiple": lambda spacing_mm: 1 / 0}, "Net: its patch_multiple cannot be had .ZeroDivisionError"),
        ({"output_scales": lambda **given: 1 / 0}, "Net: its output_scales cannot be had .ZeroDivisionError"),
        ({"output_scales": lambda **given: [1, 0.5]}, r"Net: its output_scales give \[1, 0.5\]"),
    ],
)
def test_a_function_that_fails_is_told_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message):
        _ = made(**changes).output_scales
