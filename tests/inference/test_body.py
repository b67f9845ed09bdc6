import numpy as np

from unetr_nnunet.inference.body import MARGIN_MM, body_box

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


def test_box_holds_the_body_with_its_margin_and_no_table():
    z, y, x = body_box(scene(), SPACING)
    assert (z.start, z.stop) == (0, 40)
    for span, low, high in ((y, 50, 131), (x, 40, 161)):
        assert low - MARGIN_MM - 8 <= span.start <= low - MARGIN_MM + 8
        assert high + MARGIN_MM - 8 <= span.stop <= high + MARGIN_MM + 8


def test_wider_field_of_view_gives_the_same_size():
    wide = np.pad(scene(), ((0, 0), (100, 100), (100, 100)), constant_values=-1000)
    sizes = [[span.stop - span.start for span in body_box(image, SPACING)] for image in (scene(), wide)]
    np.testing.assert_allclose(*sizes, atol=8)


def test_lungs_do_not_split_and_two_legs_are_kept():
    image = np.full((20, 100, 200), -1000, np.int16)
    image[:, 30:70, 20:70] = 50
    image[:, 30:70, 120:180] = 50
    _, _, x = body_box(image, (2, 1, 1))
    assert x.start <= 20
    assert x.stop >= 180


def test_nothing_but_air_is_looked_at_whole():
    assert body_box(np.full((5, 6, 7), -1000, np.int16), SPACING) == (slice(0, 5), slice(0, 6), slice(0, 7))


def test_tiny_images():
    assert body_box(np.zeros((1, 1, 1), np.int16), (10, 10, 10)) == (slice(0, 1),) * 3
    assert body_box(np.full((3, 3, 3), 40, np.int16), SPACING) == (slice(0, 3),) * 3
