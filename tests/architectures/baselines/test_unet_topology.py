import pytest
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

from unetr_nnunet.architectures.baselines.unet_topology import patch_multiple, strides_and_kernels, total_strides

SPACINGS = [
    (1.5, 1.5, 1.5),
    (3.0, 0.76, 0.76),
    (1.0, 1.0, 2.0),
    (5.0, 0.5, 0.7),
    (8.0, 6.0, 6.0),
    (0.8, 0.8),
    (3.0, 0.7),
]
SIDES = [8, 12, 16, 20, 24, 32, 48, 56, 80, 96, 128, 160, 192, 320]


def patches(spacing):
    """Return patches that nnU-Net's planners leave as they are."""
    several = [(first, *(side,) * (len(spacing) - 1)) for first in SIDES for side in SIDES]
    return [patch for patch in several if tuple(get_pool_and_conv_props(spacing, patch, 4, 999999)[3]) == patch]


@pytest.mark.parametrize("spacing", SPACINGS)
def test_strides_and_kernels_are_those_of_nnunet(spacing):
    assert len(patches(spacing)) > 50
    for patch in patches(spacing):
        _, strides, kernels, _, _ = get_pool_and_conv_props(spacing, patch, 4, 999999)
        assert strides_and_kernels(patch, spacing) == (tuple(map(tuple, strides)), tuple(map(tuple, kernels)))


@pytest.mark.parametrize("spacing", SPACINGS)
def test_any_multiple_can_be_divided(spacing):
    multiple = patch_multiple(spacing)
    for steps in (1, 3, 5, 7, 9):
        patch = [steps * length for length in multiple]
        for strides in total_strides(strides_and_kernels(patch, spacing)[0]):
            assert not any(axis % stride for axis, stride in zip(patch, strides, strict=True))


def test_thick_slices_are_halved_later():
    assert patch_multiple((3.0, 0.76, 0.76)) == (8, 16, 16)
    assert patch_multiple((1.5, 1.5, 1.5)) == (16, 16, 16)
    assert patch_multiple((0.8, 0.8)) == (16, 16)
    strides, kernels = strides_and_kernels((16, 96, 96), (3.0, 0.76, 0.76))
    assert strides == ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2))
    assert kernels == ((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
