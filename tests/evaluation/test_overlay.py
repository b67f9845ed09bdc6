from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import SimpleITK as sitk

from unetr_nnunet.evaluation.overlay import OPACITY, draw_overlay
from unetr_nnunet.organs import ORGANS

LIVER = ORGANS[5]


def write(path: Path, array: np.ndarray, orientation: str) -> Path:
    """Write an LPS array (Z, Y, X) in another storage orientation."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1, 1, 2))
    sitk.WriteImage(sitk.DICOMOrient(image, orientation), str(path))
    return path


def picture(folder: Path, orientation: str) -> np.ndarray:
    """Draw a liver at the patient's right over a CT of -160 HU (black) and return the pixels, 0..255."""
    ct = np.full((12, 30, 40), -160, np.int16)
    label = np.zeros_like(ct, np.uint8)
    label[4:8, 5:20, 2:14] = LIVER.id  # low x is the patient's right in LPS
    files = [write(folder / f"{name}_{orientation}.nii.gz", a, orientation) for name, a in (("ct", ct), ("l", label))]
    target = folder / f"{orientation}.png"
    draw_overlay(files[0], {"truth": files[1], "prediction": files[1]}, target)
    return np.round(matplotlib.image.imread(target)[..., :3] * 255)


def test_an_organ_has_its_colour_on_the_viewers_left(tmp_path: Path) -> None:
    pixels = picture(tmp_path, "LPS")
    blended = np.array(LIVER.colour) * OPACITY
    _, columns = np.nonzero(np.abs(pixels - blended).max(axis=-1) <= 3)
    panel = pixels.shape[1] / 3
    assert set((columns // panel).astype(int)) == {1, 2}, "over truth and prediction, not over the bare CT"
    assert ((columns % panel) / panel).mean() < 0.5, "the patient's right is on the viewer's left"


def test_the_storage_orientation_does_not_show(tmp_path: Path) -> None:
    assert np.array_equal(picture(tmp_path, "LPS"), picture(tmp_path, "RAS"))


def test_a_map_of_another_size_is_refused(tmp_path: Path) -> None:
    ct = write(tmp_path / "ct.nii.gz", np.zeros((4, 4, 4), np.int16), "LPS")
    label = write(tmp_path / "label.nii.gz", np.zeros((4, 4, 5), np.uint8), "LPS")
    with pytest.raises(ValueError, match=r"label.nii.gz has shape \(4, 4, 5\), its CT \(4, 4, 4\)"):
        draw_overlay(ct, {"truth": label}, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_an_empty_map_is_drawn(tmp_path: Path) -> None:
    ct = write(tmp_path / "ct.nii.gz", np.zeros((4, 8, 8), np.int16), "LPS")
    label = write(tmp_path / "label.nii.gz", np.zeros((4, 8, 8), np.uint8), "LPS")
    draw_overlay(ct, {"truth": label}, tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
