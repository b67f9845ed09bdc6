from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import SimpleITK as sitk

from unetr_nnunet.images import overlay
from unetr_nnunet.images.overlay import ABDOMINAL_WINDOW, OPACITY, draw_overlay
from unetr_nnunet.organs import ORGANS

LIVER = ORGANS[5]
BLACK_HU, WHITE_HU = ABDOMINAL_WINDOW


def stored(array: np.ndarray, orientation: str = "LPS", spacing: tuple[float, float, float] = (1, 1, 2)) -> sitk.Image:
    """Return an image of an LPS array (Z, Y, X) in another storage orientation; spacing (x, y, z) of the array."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    return sitk.DICOMOrient(image, orientation)


def liver(orientation: str) -> tuple[sitk.Image, sitk.Image]:
    """Return a CT of black and a liver at the patient's right."""
    ct = np.full((12, 30, 40), BLACK_HU, np.int16)
    label = np.zeros_like(ct, np.uint8)
    label[4:8, 5:20, 2:14] = LIVER.id  # low x is the patient's right in LPS
    return stored(ct, orientation), stored(label, orientation)


def pixels(picture: Path) -> np.ndarray:
    return np.round(matplotlib.image.imread(picture)[..., :3] * 255)


def has_colour(picture: np.ndarray, colour: tuple[int, int, int], opacity: float = OPACITY) -> np.ndarray:
    return np.abs(picture - np.array(colour) * opacity).max(axis=-1) <= 3


def test_an_organ_has_its_colour_on_the_viewers_left(tmp_path: Path) -> None:
    ct, label = liver("LPS")
    draw_overlay(ct, {"truth": label, "prediction": label}, tmp_path / "out.png")
    drawn = pixels(tmp_path / "out.png")
    _, columns = np.nonzero(has_colour(drawn, LIVER.colour))
    panel = drawn.shape[1] / 3
    assert set((columns // panel).astype(int)) == {1, 2}, "over truth and prediction, not over the bare CT"
    assert ((columns % panel) / panel).mean() < 0.5, "the patient's right is on the viewer's left"
    title = (drawn[: int(overlay.TITLE_INCHES * overlay.DOTS_PER_INCH)] > 200).all(axis=-1)
    assert all(part.sum() > 20 for part in np.array_split(title, 3, axis=1)), "each column has its title"


@pytest.mark.parametrize("orientation", ["RAS", "SPL"])
def test_the_storage_orientation_does_not_show(tmp_path: Path, orientation: str) -> None:
    for name in ("LPS", orientation):
        ct, label = liver(name)
        draw_overlay(ct, {"truth": label}, tmp_path / f"{name}.png")
    assert np.array_equal(pixels(tmp_path / "LPS.png"), pixels(tmp_path / f"{orientation}.png"))


def test_maps_may_be_stored_in_another_orientation_than_the_ct(tmp_path: Path) -> None:
    ct, label = liver("LPS")
    draw_overlay(ct, {"truth": label}, tmp_path / "same.png")
    draw_overlay(ct, {"truth": sitk.DICOMOrient(label, "ASR")}, tmp_path / "other.png")
    assert np.array_equal(pixels(tmp_path / "same.png"), pixels(tmp_path / "other.png"))


def test_a_map_of_another_size_is_refused(tmp_path: Path) -> None:
    ct, label = stored(np.zeros((4, 4, 4), np.int16)), stored(np.zeros((4, 4, 5), np.uint8))
    with pytest.raises(ValueError, match=r"truth has shape \(4, 4, 5\), its CT \(4, 4, 4\)"):
        draw_overlay(ct, {"truth": label}, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("shape", "label"), [((4, 8, 8), 0), ((4, 8, 8), 6), ((1, 8, 8), 0), ((1, 8, 8), 6), ((1, 1, 3), 6), ((3, 1, 1), 0)]
)
def test_small_and_empty_images_are_drawn(tmp_path: Path, shape: tuple[int, ...], label: int) -> None:
    ct, mask = stored(np.zeros(shape, np.int16)), stored(np.full(shape, label, np.uint8))
    draw_overlay(ct, {"truth": mask}, tmp_path / "out.png")
    assert has_colour(pixels(tmp_path / "out.png"), LIVER.colour, 1).any(), "the legend at least"


@pytest.mark.parametrize(("spacing", "shape"), [((0.5, 1.0, 4.0), (10, 40, 80)), ((1.0, 2.0, 0.25), (160, 20, 40))])
def test_voxels_are_drawn_in_true_proportion(
    tmp_path: Path, spacing: tuple[float, float, float], shape: tuple[int, int, int]
) -> None:
    """Both CTs are cubes of 40 mm with a bright cube of 20 mm in the middle."""
    ct = np.full(shape, BLACK_HU, np.int16)
    ct[tuple(slice(length // 4, 3 * length // 4) for length in shape)] = WHITE_HU
    mask = np.zeros(shape, np.uint8)
    draw_overlay(stored(ct, "RSA", spacing), {"truth": stored(mask, "LPS", spacing)}, tmp_path / "out.png")
    drawn = pixels(tmp_path / "out.png")
    top, half = int(overlay.TITLE_INCHES * overlay.DOTS_PER_INCH), drawn.shape[1] // 2
    rows = (int(3 * overlay.PANEL_INCHES * overlay.DOTS_PER_INCH), 3)
    white = (drawn[top : top + rows[0], :half] > 128).all(axis=-1)
    for panel in np.array_split(white, rows[1]):
        sizes = [len(np.flatnonzero(panel.any(axis=axis))) for axis in (0, 1)]
        assert sizes == pytest.approx([half / 2, half / 2], abs=5)


def test_any_label_table_can_be_drawn(tmp_path: Path) -> None:
    ct = np.full((4, 30, 40), BLACK_HU, np.int16)
    mask = np.zeros(ct.shape, np.uint16)
    mask[:, :10], mask[:, 15:], mask[0, 12, 0] = 700, 3, 60000  # the last is in no table
    draw_overlay(stored(ct), {"truth": stored(mask)}, tmp_path / "out.png", {"liver": 700, "lesion": 3})
    drawn = pixels(tmp_path / "out.png")
    assert has_colour(drawn, LIVER.colour).sum() > 1000
    lesion = overlay.label_colours({"lesion": 3})[3]
    assert has_colour(drawn, lesion).sum() > 1000


def test_a_long_legend_names_only_what_occurs(tmp_path: Path) -> None:
    table = {f"label {number}": number for number in range(1, 200)}
    colours = overlay.label_colours(table)
    ct, mask = np.full((4, 30, 40), BLACK_HU, np.int16), np.zeros((4, 30, 40), np.uint8)
    mask[:, :5], mask[0, 0, 0] = 150, 120
    draw_overlay(stored(ct), {"truth": stored(mask)}, tmp_path / "out.png", table)
    legend = pixels(tmp_path / "out.png")
    assert all(has_colour(legend, colours[number], 1).any() for number in (150, 120))
    assert not any(has_colour(legend, colours[number], 1).sum() > 20 for number in (1, 2, 3, 119, 199))


def test_the_volume_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole-body CT must fit: what is drawn is taken from views of the images' own memory."""
    ct, label = liver("RAS")
    taken = []
    original = overlay._slice

    def watched(array: np.ndarray, axis: int, index: int) -> np.ndarray:
        taken.append(array)
        return original(array, axis, index)

    monkeypatch.setattr(overlay, "_slice", watched)
    draw_overlay(ct, {"truth": label}, tmp_path / "out.png")
    for array in taken:
        source = ct if array.dtype == np.int16 else label
        assert np.shares_memory(array, sitk.GetArrayViewFromImage(source))
    assert {array.dtype for array in taken} == {np.dtype(np.int16), np.dtype(np.uint8)}


def test_slices_with_most_labels_are_chosen() -> None:
    labels = np.zeros((9, 6, 5), np.uint8)
    labels[1:8, 3, 2] = 1
    labels[7, 3, 1], labels[2, 4, 3] = 2, 3
    views = overlay._choose_views(*overlay._count(labels, 4))
    assert views == [(0, 7), (0, 2), (1, 3)]


@pytest.mark.parametrize(("depth", "rows"), [(2, 1), (20, 3)])
def test_a_thin_slab_has_no_coronal_slice(tmp_path: Path, depth: int, rows: int) -> None:
    ct = stored(np.full((depth, 40, 40), WHITE_HU, np.int16))
    label = stored(np.full((depth, 40, 40), LIVER.id, np.uint8))
    draw_overlay(ct, {"truth": label}, tmp_path / "out.png")
    column = pixels(tmp_path / "out.png")[:, 100, 0]  # through the bare CT's panels, white on black
    assert np.count_nonzero(np.diff((column > 250).astype(int)) == 1) == rows


def test_an_image_that_is_no_ct_is_drawn_at_its_own_contrast(tmp_path: Path) -> None:
    image = np.zeros((20, 40, 40), np.float32)
    image[:, :20] = 3.0
    label = stored(np.zeros(image.shape, np.uint8))
    for name, window in (("ct", ABDOMINAL_WINDOW), ("other", None)):
        draw_overlay(stored(image), {"truth": label}, tmp_path / f"{name}.png", window=window)
    assert not (pixels(tmp_path / "ct.png")[60:200, :300] > 200).any()
    assert (pixels(tmp_path / "other.png")[60:200, :300] > 250).any()
