import numpy as np
import pytest

from unetr_nnunet.phantom.canvas import Canvas, in_layers
from unetr_nnunet.phantom.shapes import Ellipsoid, Slab
from unetr_nnunet.phantom.tissue import AIR_HU, FAT_HU


@pytest.fixture
def canvas() -> Canvas:
    in_plane = ((np.arange(40) - 19.5) * 2).astype(np.float32)
    thin = ((np.arange(48) - 23.5) * 2).astype(np.float32)
    z, y, x = np.meshgrid(thin, in_plane, in_plane, indexing="ij")
    return Canvas(Slab((x, y, z), 2.0, 2), in_plane)


def test_partial_volume_keeps_the_mass(canvas):
    canvas.paint(Ellipsoid((1.3, -0.7, 2.1), (20, 20, 20)), 100.0, 6)
    share = (canvas.image_hu - AIR_HU) / (100 - AIR_HU)
    voxel_ml = 2 * 2 * 4 / 1000
    expected_ml = 4 / 3 * np.pi * 8
    assert share.sum() * voxel_ml == pytest.approx(expected_ml, rel=0.01)
    assert (canvas.labels == 6).sum() * voxel_ml == pytest.approx(expected_ml, rel=0.02)
    assert ((share > 0.1) & (share < 0.9)).sum() > 500
    assert canvas.labels.shape == canvas.image_hu.shape == (24, 40, 40)


def test_later_shapes_push_back_earlier_ones(canvas):
    canvas.paint(Ellipsoid((0, 0, 0), (24, 24, 24)), 100.0, 6)
    canvas.paint(Ellipsoid((0, 0, 0), (8, 8, 8)), 150.0, 8, fat_margin_mm=6)
    middle = canvas.labels[12, 20]
    assert middle[20] == 8
    assert middle[20 + 5] == 0
    assert middle[20 + 9] == 6
    assert canvas.image_hu[12, 20, 25] == pytest.approx(FAT_HU, abs=2)


def test_label_none_leaves_labels(canvas):
    canvas.paint(Ellipsoid((0, 0, 0), (20, 20, 20)), 100.0, 6)
    before = canvas.labels.copy()
    canvas.paint(Ellipsoid((0, 0, 0), (5, 5, 5)), 200.0, None)
    np.testing.assert_array_equal(canvas.labels, before)
    assert canvas.image_hu[12, 20, 20] == pytest.approx(200)


def test_limits_cut_shape_and_margin(canvas):
    limit = canvas.slab.coordinates_mm[0] - np.float32(4)
    canvas.paint(Ellipsoid((0, 0, 0), (20, 20, 20)), 100.0, 6, limits=(limit,), fat_margin_mm=5)
    assert not canvas.labels[:, :, 23:].any()
    assert (canvas.image_hu[:, :, 23:] == AIR_HU).all()


def test_layers_change_with_depth():
    grey = in_layers((0, 10.0), (3, 50.0), (6, 90.0))
    depths = np.array([1.0, 4.5, 9.0])
    np.testing.assert_allclose(grey(-depths, (slice(0),) * 3), [10, 50, 90])
