import numpy as np
import pytest
import torch
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet

from unetr_nnunet.inference.resampling import Stretch, planned_resampling, resample

SHAPE = (14, 37, 41)
CASES = [
    ((3.0, 0.8, 0.8), (3.0, 1.5, 1.5), (14, 20, 22)),
    ((5.0, 0.8, 0.8), (2.5, 1.1, 1.1), (28, 27, 30)),
    ((1.0, 1.0, 1.0), (1.7, 1.7, 1.7), (8, 22, 24)),
    ((2.0, 2.0, 2.0), (1.3, 1.6, 1.1), (22, 46, 75)),
]


def image(seed=0):
    return np.random.default_rng(seed).normal(size=(2, *SHAPE)).astype(np.float32)


def configuration(function, **kwargs):
    return {"resampling_fn_data": function, "resampling_fn_data_kwargs": {"is_seg": False, **kwargs}}


def ours(values, found, spacing, new_spacing, new_shape, part=None):
    part = part or [(0, length) for length in new_shape]
    stretches = [Stretch(old, new, *bounds) for old, new, bounds in zip(SHAPE, new_shape, part, strict=True)]
    orders = found.orders(spacing, new_spacing)
    needed = [stretch.needed(order) for stretch, order in zip(stretches, orders, strict=True)]
    source = torch.from_numpy(values[(slice(None), *(slice(*bounds) for bounds in needed))].copy())
    return resample(source, [first for first, _ in needed], stretches, orders).numpy()


@pytest.mark.parametrize(("spacing", "new_spacing", "new_shape"), CASES)
@pytest.mark.parametrize(("order", "order_z"), [(1, 0), (3, 0), (1, 1), (3, 1)])
@pytest.mark.parametrize("separate", [None, False, True])
def test_whole_image_as_nnunet(spacing, new_spacing, new_shape, order, order_z, separate):
    kwargs = {"order": order, "order_z": order_z, "force_separate_z": separate}
    expected = resample_data_or_seg_to_shape(image(), new_shape, spacing, new_spacing, is_seg=False, **kwargs)
    found = planned_resampling(configuration("resample_data_or_seg_to_shape", **kwargs), "data")
    np.testing.assert_allclose(ours(image(), found, spacing, new_spacing, new_shape), expected, atol=2e-5)


@pytest.mark.parametrize(("spacing", "new_spacing", "new_shape"), CASES)
def test_whole_image_as_nnunets_torch_resampling(spacing, new_spacing, new_shape):
    expected = resample_torch_fornnunet(image(), new_shape, spacing, new_spacing, is_seg=False)
    found = planned_resampling(configuration("resample_torch_fornnunet", force_separate_z=None), "data")
    np.testing.assert_allclose(ours(image(), found, spacing, new_spacing, new_shape), expected, atol=2e-5)


@pytest.mark.parametrize(("spacing", "new_spacing", "new_shape"), CASES)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_a_part_is_that_part_of_the_whole(spacing, new_spacing, new_shape, order):
    kwargs = {"order": order, "order_z": 0, "force_separate_z": None}
    found = planned_resampling(configuration("resample_data_or_seg_to_shape", **kwargs), "data")
    smooth = (
        np.cumsum(image(), axis=2) * 0.2
    )  # a clipped spline depends on what is looked at; a smooth one is not clipped
    whole = ours(smooth, found, spacing, new_spacing, new_shape)
    part = [(length // 4, length - length // 3) for length in new_shape]
    box = tuple(slice(*bounds) for bounds in part)
    inside = ours(smooth, found, spacing, new_spacing, new_shape, part)
    assert np.median(np.abs(inside - whole[(slice(None), *box)])) < 1e-5
    assert np.mean(np.abs(inside - whole[(slice(None), *box)]) > 1e-3) < 0.01


def test_same_grid_is_a_copy_of_the_part():
    found = planned_resampling(configuration("resample_data_or_seg_to_shape", order=3, force_separate_z=None), "data")
    part = [(2, 9), (0, 37), (40, 41)]
    result = ours(image(), found, (1, 1, 1), (1, 1, 1), SHAPE, part)
    np.testing.assert_array_equal(result, image()[:, 2:9, :, 40:])


def test_half_precision_stays():
    stretches = [Stretch(4, 8, 0, 8)] * 3
    assert resample(torch.ones(1, 4, 4, 4, dtype=torch.float16), (0, 0, 0), stretches, (1, 1, 1)).dtype == torch.float16


@pytest.mark.parametrize(
    "unknown",
    [
        configuration("no_resampling_data_or_seg_to_shape"),
        configuration("resample_data_or_seg_to_shape", order=5),
        configuration("resample_data_or_seg_to_shape", order_z=3, force_separate_z=None),
        configuration("resample_torch_fornnunet", mode="nearest"),
    ],
)
def test_what_only_nnunet_can_do(unknown):
    assert planned_resampling(unknown, "data") is None
