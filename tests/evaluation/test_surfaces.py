"""Surfaces of all labels at once, against SciPy's erosion and the surface-distance package's kernel, label by label."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage
from surface_distance.lookup_tables import ENCODE_NEIGHBOURHOOD_3D_KERNEL

from tests.evaluation.label_map_pairs import PAIRS, Pair
from unetr_nnunet.evaluation.surfaces import find_surfaces


@pytest.mark.parametrize("pair", PAIRS)
def test_equals_what_each_label_gives_by_itself(pair: Callable[[], Pair]) -> None:
    for label_map in pair():
        surfaces = find_surfaces(label_map, 5)
        assert not len(surfaces[4].voxels)
        assert not len(surfaces[4].elements)
        for label, surface in enumerate(surfaces, start=1):
            mask = label_map == label
            np.testing.assert_array_equal(surface.voxels, np.argwhere(mask & ~ndimage.binary_erosion(mask)))
            codes = ndimage.correlate(np.pad(mask, (0, 1)).astype(int), ENCODE_NEIGHBOURHOOD_3D_KERNEL, mode="constant")
            in_order = np.lexsort(surface.elements.T[::-1])
            np.testing.assert_array_equal(surface.elements[in_order], np.argwhere((codes != 0) & (codes != 255)))
            np.testing.assert_array_equal(surface.codes, codes[tuple(surface.elements.T)])


def test_inner_voxels_are_no_surface() -> None:
    cube = np.zeros((5, 5, 5), np.uint8)
    cube[1:4, 1:4, 1:4] = 1
    (surface,) = find_surfaces(cube, 1)
    assert len(surface.voxels) == 26  # 27 without the middle one
    assert len(surface.elements) == 4**3 - 2**3  # the cube's corners, without those inside
    assert [2, 2, 2] not in surface.voxels.tolist()


def test_the_border_of_the_image_is_a_surface() -> None:
    (surface,) = find_surfaces(np.ones((3, 3, 3), np.uint8), 1)
    assert len(surface.voxels) == 26
    assert len(surface.elements) == 4**3 - 2**3
