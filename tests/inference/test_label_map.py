import numpy as np
import pytest
import torch
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from scipy import ndimage

from unetr_nnunet.inference.label_map import LogitsOnImage
from unetr_nnunet.inference.preparation import Prepared
from unetr_nnunet.inference.resampling import Resampling

LINEAR = Resampling(1, None, 3.0)
LABELS = LabelManager({"background": 0, "a": 1, "b": 2, "c": 3, "d": 4}, None)
REGIONS = LabelManager({"background": 0, "all": [1, 2, 3], "core": [2, 3], "tip": 3}, [1, 2, 3])


def smooth_logits(outputs, shape, seed=0):
    noise = np.random.default_rng(seed).normal(size=(outputs, *shape))
    return (ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 1.5)) * 100).astype(np.float16)


def on_image(values, image_shape, spacing, network_spacing, labels=LABELS, part=None, crop=None, network_shape=None):
    prepared = Prepared(
        data=torch.zeros(0),
        part=part or tuple((0, length) for length in values.shape[1:]),
        network_shape=network_shape or values.shape[1:],
        network_spacing_mm=network_spacing,
        crop=crop or tuple(slice(0, length) for length in image_shape),
        image_shape=image_shape,
        spacing_mm=spacing,
    )
    return LogitsOnImage(torch.from_numpy(values), prepared, LINEAR, labels)


CASES = [
    ((12, 30, 28), (20, 71, 64), (1.5, 1, 1), (2.5, 2.4, 2.3)),
    ((12, 30, 28), (12, 60, 64), (5, 1, 1), (5, 2, 2.3)),
    ((12, 30, 28), (30, 60, 64), (2, 1, 1), (5, 2, 2.3)),
    ((20, 30, 28), (11, 20, 13), (4, 3, 3), (2.2, 2, 1.4)),
    ((9, 10, 11), (9, 10, 11), (1, 1, 1), (1, 1, 1)),
]


@pytest.mark.parametrize(("shape", "image_shape", "spacing", "network_spacing"), CASES)
@pytest.mark.parametrize("labels", [LABELS, REGIONS], ids=["labels", "regions"])
def test_label_map_as_nnunet(shape, image_shape, spacing, network_spacing, labels):
    values = smooth_logits(labels.num_segmentation_heads, shape)
    resampled = resample_data_or_seg_to_shape(
        values.astype(np.float32), image_shape, network_spacing, spacing, order=1, order_z=0, force_separate_z=None
    )
    expected = labels.convert_logits_to_segmentation(np.asarray(resampled))
    found = on_image(values, image_shape, spacing, network_spacing, labels).label_map()
    assert found.dtype == np.uint8
    assert len(np.unique(expected)) == len(labels.all_labels)
    assert np.mean(found == expected) > 0.9998


@pytest.mark.parametrize(("shape", "image_shape", "spacing", "network_spacing"), CASES)
def test_probabilities_as_nnunet(shape, image_shape, spacing, network_spacing):
    values = smooth_logits(5, shape) / 10
    resampled = resample_data_or_seg_to_shape(
        values.astype(np.float32), image_shape, network_spacing, spacing, order=1, order_z=0, force_separate_z=None
    )
    expected = LABELS.apply_inference_nonlin(np.asarray(resampled, np.float32)).numpy()
    rows = list(on_image(values, image_shape, spacing, network_spacing).probabilities())
    assert [row for row, _ in rows] == list(range(image_shape[0]))
    np.testing.assert_allclose(np.stack([each for _, each in rows], axis=1), expected, atol=2e-3)


def test_part_and_crop_are_put_in_their_place():
    whole = np.zeros((5, 20, 24, 24), np.float16)
    whole[0] = 5
    whole[2, 6:12, 8:14, 9:17] = 9
    everywhere = on_image(whole, (20, 48, 48), (2, 1, 1), (2, 2, 2)).label_map()
    part = ((4, 15), (5, 20), (6, 24))
    inner = whole[(slice(None), *(slice(*bounds) for bounds in part))]
    crop = (slice(3, 23), slice(2, 50), slice(1, 49))
    found = on_image(inner, (25, 52, 49), (2, 1, 1), (2, 2, 2), part=part, crop=crop, network_shape=(20, 24, 24))
    mask = found.label_map()
    np.testing.assert_array_equal(mask[crop], everywhere)
    assert np.count_nonzero(mask) == np.count_nonzero(everywhere) == 6 * 12 * 16
    probabilities = np.stack([each for _, each in found.probabilities()], axis=1)
    np.testing.assert_array_equal(probabilities.argmax(0), mask)
    np.testing.assert_array_equal(probabilities[0, 0], np.ones((52, 49)))


def test_chunks_give_the_same(monkeypatch):
    values = smooth_logits(5, (12, 30, 28))
    expected = on_image(values, (20, 71, 64), (1.5, 1, 1), (2.5, 2.4, 2.3)).label_map()
    monkeypatch.setattr("unetr_nnunet.inference.label_map.CHUNK_VOXELS", 3 * 71 * 64)
    found = on_image(values, (20, 71, 64), (1.5, 1, 1), (2.5, 2.4, 2.3)).label_map()
    np.testing.assert_array_equal(found, expected)


def test_nothing_found():
    values = np.zeros((5, 4, 4, 4), np.float16)
    values[0] = 1
    assert not on_image(values, (8, 8, 8), (1, 1, 1), (2, 2, 2)).label_map().any()
