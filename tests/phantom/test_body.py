import numpy as np
import pytest

from unetr_nnunet.phantom.body import Implicit, draw_build, paint_body, paint_table
from unetr_nnunet.phantom.canvas import Canvas
from unetr_nnunet.phantom.shapes import Slab
from unetr_nnunet.phantom.tissue import draw_tissues

AXIS = np.arange(-200, 201, 4, dtype=np.float32)


@pytest.fixture(scope="module")
def painted():
    """A slice at the kidneys' height, 4 mm pixels: (1, y, x)."""
    z, y, x = np.meshgrid(np.array([-1, 1], np.float32), AXIS, AXIS, indexing="ij")
    canvas = Canvas(Slab((x, y, z), 4.0, 2), AXIS)
    rng = np.random.default_rng(0)
    tissues = draw_tissues(rng)
    paint_table(canvas, AXIS, AXIS, 150.0)
    limits = paint_body(canvas, draw_build(rng), tissues)
    return canvas, limits, tissues


def at(image, y_mm, x_mm):
    return float(image[0, int(np.argmin(abs(AXIS - y_mm))), int(np.argmin(abs(AXIS - x_mm)))])


def test_from_outside_in_there_is_air_fat_muscle_and_the_cavity(painted):
    canvas, limits, tissues = painted
    image = canvas.image_hu
    assert at(image, -196, -196) < -900
    assert at(limits.cavity, 0, 0) < 0 < at(limits.cavity, 0, 190)
    row = image[0, 50]
    first_tissue = int(np.argmax(row > -300))
    assert 0 < first_tissue < 30
    assert row[first_tissue : first_tissue + 12].min() < -60, "fat under the skin"
    spine = image[0, :, 45:56]
    assert spine.max() > tissues.hu["marrow"]


def test_the_table_lies_under_the_patient(painted):
    canvas, _, _ = painted
    below = canvas.image_hu[0, AXIS > 140, 50]
    assert (below > -900).any()
    assert (canvas.labels == 0).all()


def test_an_implicit_shape_is_its_formula():
    ball = Implicit((-2, -2, -2), (2, 2, 2), lambda x, y, z: np.sqrt(x * x + y * y + z * z) - 2)
    z, y, x = np.meshgrid(*[np.arange(-4, 5, dtype=np.float32)] * 3, indexing="ij")
    distance = ball.distance(Slab((x, y, z), 1.0, 1), (slice(4, 5), slice(4, 5), slice(0, 9)))
    np.testing.assert_array_equal(distance[0, 0], [2, 1, 0, -1, -2, -1, 0, 1, 2])
    np.testing.assert_array_equal(ball.bounds_mm, [[-2, -2, -2], [2, 2, 2]])


def test_the_right_dome_is_higher():
    builds = [draw_build(np.random.default_rng(seed)) for seed in range(50)]
    assert all(right > left for right, left in (build.dome_mm for build in builds))
    assert len({build.fat_mm for build in builds}) == 50
