import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from unetr_nnunet.phantom.shapes import Blend, Ellipsoid, Plate, Slab, Tube, smooth_minimum


def make_slab(size: int = 64, spacing_mm: float = 2.0, turn_degrees: float = 0.0) -> Slab:
    axis = (np.arange(size) - size / 2 + 0.5) * spacing_mm
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    points = np.stack([x, y, z]).reshape(3, -1)
    points = (
        Rotation.from_euler("xyz", [turn_degrees / 2, turn_degrees / 2, turn_degrees], degrees=True).apply(points.T).T
    )
    x, y, z = points.reshape(3, size, size, size).astype(np.float32)
    return Slab((x, y, z), spacing_mm, 2)


def volume_ml(shape: object, slab: Slab) -> float:
    box = slab.box(shape.bounds_mm, 2.0)
    return float((shape.distance(slab, box) < 0).sum() * slab.pixel_mm**3 / 1000)


def test_sphere_distance_is_exact():
    slab = make_slab()
    box = slab.box(np.array([[-90, -90, -90], [90, 90, 90]], np.float32))
    x, y, z = slab.at(box)
    np.testing.assert_allclose(
        Ellipsoid((5, -3, 2), (20, 20, 20)).distance(slab, box),
        np.sqrt((x - 5) ** 2 + (y + 3) ** 2 + (z - 2) ** 2) - 20,
        atol=2e-3,
    )


@pytest.mark.parametrize("degrees", [(0, 0, 0), (30, -20, 50)])
def test_volumes_are_those_of_the_formulas(degrees):
    slab = make_slab()
    assert volume_ml(Ellipsoid((0, 0, 0), (20, 30, 40), degrees), slab) == pytest.approx(np.pi * 4 / 3 * 24, rel=0.01)
    tube = Tube([(-40, 0.3, 0.6), (0, 0.3, 0.6), (40, 0.3, 0.6)], [10, 10, 10])
    assert volume_ml(tube, slab) == pytest.approx(np.pi * (8 + 4 / 3), rel=0.02)
    thin = Plate((0, 0, 0), (20, 0, 0), (0, 0, 30), 4.0)
    edge = 0.5 * np.pi * 16 * (80 + 120) + 4 / 3 * np.pi * 64
    assert volume_ml(thin, slab) == pytest.approx((40 * 60 * 8 + edge) / 1000, rel=0.02)


def test_turned_ellipsoid_turns_its_long_axis():
    shape = Ellipsoid((0, 0, 0), (40, 10, 10), (0, 0, 90))
    np.testing.assert_allclose(shape.bounds_mm[1], (10, 40, 10), atol=1e-4)


@pytest.mark.parametrize("turn_degrees", [0.0, 9.0])
def test_boxes_hold_every_point_of_their_bounds(turn_degrees):
    slab = make_slab(turn_degrees=turn_degrees)
    x, y, z = slab.coordinates_mm
    rng = np.random.default_rng(0)
    for _ in range(50):
        lower = rng.uniform(-60, 40, 3).astype(np.float32)
        upper = lower + rng.uniform(1, 30, 3).astype(np.float32)
        inside = np.ones(slab.shape, bool)
        for low, high, coordinate in zip(lower, upper, (x, y, z), strict=True):
            inside &= (coordinate >= low) & (coordinate <= high)
        box = slab.box(np.stack([lower, upper]))
        if box is not None:
            assert box[0].start % 2 == 0
            assert (box[0].stop % 2) == 0
            inside[box] = False
        assert not inside.any()
    assert slab.box(np.array([[500, 0, 0], [510, 10, 10]], np.float32)) is None


def test_flattened_tube_is_flat_from_front_to_back():
    slab = make_slab()
    tube = Tube([(0, 0, -40), (0, 0, 0), (0, 0, 40)], [12, 12, 12], flatten_y=2.0)
    box = slab.box(tube.bounds_mm)
    x, y, _ = slab.at(box)
    inside = tube.distance(slab, box) < 0
    assert np.abs(x[inside]).max() > 1.8 * np.abs(y[inside]).max()


def test_blend_joins_and_carves():
    slab = make_slab()
    parts = [Ellipsoid((-10, 0, 0), (20, 20, 20)), Ellipsoid((10, 0, 0), (20, 20, 20))]
    joined = volume_ml(Blend(parts, blend_mm=8), slab)
    carved = volume_ml(Blend(parts, [Ellipsoid((0, 0, 0), (15, 15, 15))], blend_mm=8), slab)
    lens_ml = np.pi * (4 * 20 + 20) * (2 * 20 - 20) ** 2 / 12 / 1000
    plain = 2 * 4 / 3 * np.pi * 8 - lens_ml
    assert plain < joined < 1.1 * plain
    assert carved < joined - 4 / 3 * np.pi * 3.375 * 0.95


def test_smooth_minimum_is_the_minimum_away_from_the_seam():
    a, b = np.array([0.0, 5.0, 2.0]), np.array([5.0, 0.0, 2.0])
    np.testing.assert_allclose(smooth_minimum(a, b, 4.0), [0, 0, 1.0])
