import numpy as np
import pytest

from unetr_nnunet.inference.body import body_box

SPACING = (2.5, 1.0, 1.0)


def scene(shape=(40, 200, 200)):
    """Air with an ellipse of soft tissue, a thin table below it and a tube."""
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    image = np.full(shape, -1000, np.int16)
    body = ((y - 90) / 40) ** 2 + ((x - 100) / 60) ** 2 + 0 * z < 1
    image[np.broadcast_to(body, shape)] = 40
    image[:, 170:173, 10:190] = 300
    image[:, 20:24, 20:24] = 100
    return image


def test_the_box_holds_body_table_and_tube_with_their_margin():
    z, y, x = body_box(scene(), SPACING)
    assert (z.start, z.stop) == (0, 40)
    assert (y.start, y.stop) == (20 - 15 - 1, 173 + 15 + 1)  # smoothing reaches one voxel further
    assert (x.start, x.stop) == (0, 190 + 10)


@pytest.mark.parametrize("noise", [0, 60])
def test_noisy_air_is_left_out(noise):
    wide = np.pad(scene(), ((0, 0), (100, 100), (100, 100)), constant_values=-1000)
    wide = wide + np.random.default_rng(0).normal(0, noise, wide.shape).astype(np.int16)
    _, y, x = body_box(wide, SPACING)
    assert (y.start, y.stop) == (104, 289)
    assert (x.start, x.stop) == (100 + 10 - 1 - 15, 100 + 190 + 1 + 15)


@pytest.mark.parametrize(
    ("name", "place", "hu"),
    [
        ("a speck of tissue far from the body", (slice(5, 7), slice(10, 12), slice(10, 12)), 40),
        ("lung masked from the rest", (slice(0, 20), slice(20, 90), slice(30, 170)), -850),
        ("a second body", (slice(0, 20), slice(80, 95), slice(180, 195)), 40),
    ],
)
def test_nothing_denser_than_air_is_left_out(name, place, hu):
    image = np.full((20, 100, 200), -1000, np.int16)
    image[:, 40:60, 90:110] = 50
    image[place] = hu
    for box, span in zip(body_box(image, (2, 1, 1)), place, strict=True):
        assert box.start <= max(0, span.start - 15 // 2), name
        assert box.stop >= span.stop, name


def test_padding_far_below_air_hides_no_tissue():
    image = np.full((20, 100, 200), -3024, np.int16)
    image[10, 20:80, 30:170] = 40
    image[3:5, 5:7, 5:11] = 40
    assert body_box(image, (2, 1, 1)) == (slice(0, 20), slice(0, 96), slice(0, 186))


def test_nothing_but_air_is_looked_at_whole():
    assert body_box(np.full((5, 6, 7), -1000, np.int16), SPACING) == (slice(0, 5), slice(0, 6), slice(0, 7))


def test_tiny_images():
    assert body_box(np.zeros((1, 1, 1), np.int16), (10, 10, 10)) == (slice(0, 1),) * 3
    assert body_box(np.full((3, 3, 3), 40, np.int16), SPACING) == (slice(0, 3),) * 3
