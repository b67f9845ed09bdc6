import numpy as np
import pytest
import torch
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from scipy import ndimage

from unetr_nnunet.inference.label_map import BYTES_PER_VOXEL, LogitsOnImage
from unetr_nnunet.inference.memory import USABLE_SHARE, Arrays
from unetr_nnunet.inference.preparation import Prepared
from unetr_nnunet.inference.resampling import Resampling

LINEAR = Resampling(1, 0, None, 3.0)
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
    return LogitsOnImage(torch.as_tensor(values), prepared, LINEAR, labels, Arrays(0))


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


UPSAMPLED = ((20, 71, 64), (1.5, 1, 1), (2.5, 2.4, 2.3))


class OnGPU(torch.Tensor):
    """Logits that claim to lie on a GPU."""

    device = torch.device("cuda", 0)
    __torch_function__ = torch._C._disabled_torch_function_impl


def rows_decided(monkeypatch):
    """Return a list that takes the number of rows of each later decision."""
    rows, real = [], LogitsOnImage._decide

    def decide(self, found, boxes):
        rows.append(max(box[0][1] for box in boxes.values()) - min(box[0][0] for box in boxes.values()))
        real(self, found, boxes)

    monkeypatch.setattr(LogitsOnImage, "_decide", decide)
    return rows


def test_fewer_rows_are_decided_at_once_where_memory_is_short(monkeypatch):
    values = smooth_logits(5, (12, 30, 28))
    expected = on_image(values, *UPSAMPLED).label_map()
    rows = rows_decided(monkeypatch)
    for free, most in ((2**30, 20), (6.5 * 71 * 64 * BYTES_PER_VOXEL / USABLE_SHARE, 6), (1, 1)):
        monkeypatch.setattr("unetr_nnunet.inference.memory.free_bytes", lambda free=free: int(free))
        np.testing.assert_array_equal(on_image(values, *UPSAMPLED).label_map(), expected)
        assert max(rows) == most
        rows.clear()


def test_rows_of_logits_on_a_finer_grid_take_more_memory(monkeypatch):
    """Eight logits a voxel."""
    values = smooth_logits(5, (20, 40, 40))
    rows = rows_decided(monkeypatch)
    monkeypatch.setattr(
        "unetr_nnunet.inference.memory.free_bytes", lambda: int(4.5 * 20 * 20 * 8 * BYTES_PER_VOXEL / USABLE_SHARE)
    )
    on_image(values, (10, 20, 20), (2, 2, 2), (1, 1, 1)).label_map()
    assert max(rows) == 4


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDNN_STATUS_ALLOC_FAILED")]
)
def test_a_gpu_without_room_for_the_label_map_leaves_it_to_the_cpu(monkeypatch, error, caplog):
    values = smooth_logits(5, (12, 30, 28))
    expected, real = on_image(values, *UPSAMPLED).label_map(), Arrays.zeros

    def zeros(self, shape, kind, device):
        if device.type == "cuda":
            raise error
        return real(self, shape, kind, device)

    monkeypatch.setattr(Arrays, "zeros", zeros)
    found = on_image(torch.from_numpy(values).as_subclass(OnGPU), *UPSAMPLED)
    np.testing.assert_array_equal(found.label_map(), expected)
    assert found.values.device.type == "cpu"
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("cuda:0 is out of memory")
    assert caplog.messages[0].endswith(": resampling the logits on the CPU")


def test_a_cpu_without_room_works_row_by_row_in_files(monkeypatch, caplog):
    values = smooth_logits(5, (12, 30, 28))
    expected = on_image(values, *UPSAMPLED).label_map()
    rows, real = rows_decided(monkeypatch), LogitsOnImage._resampled

    def resampled(self, output, box):
        if box[0][1] - box[0][0] > 1:
            raise MemoryError("Unable to allocate 2.00 GiB")
        return real(self, output, box)

    monkeypatch.setattr(LogitsOnImage, "_resampled", resampled)
    found = on_image(values, *UPSAMPLED)
    np.testing.assert_array_equal(found.label_map(), expected)
    assert caplog.messages == ["cpu is out of memory: resampling the logits row by row, in files"]
    assert found.arrays.in_files
    assert len(rows) == 21, "all at once, and then each by itself"


def test_probabilities_go_on_from_the_row_that_did_not_fit(monkeypatch, caplog):
    values = smooth_logits(5, (12, 30, 28)) / 10
    expected = list(on_image(values, *UPSAMPLED).probabilities())
    real = LogitsOnImage._probabilities

    def probabilities(self, box):
        if box[0][0] == 7 and self.room.device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, box)

    monkeypatch.setattr(LogitsOnImage, "_probabilities", probabilities)
    found = list(on_image(torch.from_numpy(values).as_subclass(OnGPU), *UPSAMPLED).probabilities())
    assert [row for row, _ in found] == list(range(20))
    for (_, ours), (_, theirs) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert caplog.messages == ["cuda:0 is out of memory: resampling the logits on the CPU"]


def test_other_errors_are_raised(monkeypatch):
    def decide(self, found, boxes):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(LogitsOnImage, "_decide", decide)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        on_image(smooth_logits(5, (12, 30, 28)), *UPSAMPLED).label_map()
