"""Pairs of label maps for tests of metrics: two blobs with strays, organs at the border, noise."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

LabelMap = npt.NDArray[np.uint8]
Pair = tuple[LabelMap, LabelMap]
ANISOTROPIC_MM = (3.0, 0.75, 0.9)


def smooth_pair() -> Pair:
    """Four organs with smooth borders, each labelled a little differently, one stray and one hole; some touch."""
    truth, prediction = (_regions(shift) for shift in (0.0, 0.35))
    prediction[0, 0, 0] = 2
    prediction[ndimage.binary_erosion(prediction == 1, iterations=3)] = 0
    return truth, prediction


def _regions(shift: float) -> LabelMap:
    random = np.random.default_rng(3)
    fields = [ndimage.gaussian_filter(random.standard_normal((14, 36, 40)), (1.5, 4, 4)) for _ in range(5)]
    moved = [ndimage.shift(field, (shift, -2 * shift, 3 * shift), order=1, mode="nearest") for field in fields]
    return np.argmax(moved, axis=0).astype(np.uint8)


def border_pair() -> Pair:
    """Organs that touch faces, edges and corners of the image; the last fills whole slices."""
    truth, prediction = np.zeros((2, 9, 12, 13), np.uint8)
    truth[:3, :4, :5], prediction[:2, :5, :4] = 1, 1
    truth[6:, 7:, 8:], prediction[7:, 8:, 8:] = 2, 2
    truth[3:5], prediction[4:6] = 3, 3
    truth[7:, :2, 2:5], prediction[8:, :3, 1:5] = 4, 4
    return truth, prediction


def random_pair() -> Pair:
    """Noise: every voxel is a surface."""
    truth, prediction = np.random.default_rng(4).integers(0, 5, (2, 7, 11, 10), np.uint8)
    return truth, prediction


PAIRS = [smooth_pair, border_pair, random_pair]
