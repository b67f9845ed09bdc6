import base64
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.report.studies import IDS, LIVER, SIZE, SPLEEN, truth, write_volume
from unetr_nnunet.report.pictures import draw_slice, legend, read_volumes, wrong_slices


def files(root: Path, orientation: str = "LPS") -> tuple[Path, Path, Path]:
    """Write truth, a prediction without the spleen's slice 5, and a CT that is bright there only."""
    missed = truth()
    missed[5][missed[5] == SPLEEN.id] = 0
    ct = np.full(SIZE, -160, np.int16)
    ct[5, 10:18, 28:34] = 240
    arrays = {"truth": truth(), "missed": missed, "ct": ct}
    return tuple(write_volume(root / f"{name}.nii.gz", array, orientation) for name, array in arrays.items())  # type: ignore[return-value]


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SPL"])
def test_the_slice_with_the_error_is_found_and_filled(tmp_path: Path, orientation: str) -> None:
    label, prediction, ct = files(tmp_path, orientation)
    volumes, problems = read_volumes(label, {"m": prediction}, ct)
    assert problems == []
    axial, coronal = wrong_slices(volumes, None)
    assert axial == (0, 5)
    assert coronal[0] == 1
    assert 10 <= coronal[1] < 18
    drawn = draw_slice(volumes, axial, IDS, None, "ct1")
    panel = drawn.panels["m"]
    assert panel is not None
    (source,) = re.findall(r'href="(data:[^"]+)"', panel)
    wrong = np.asarray(decoded(source))
    red, green, blue, opacity = wrong.reshape(-1, 4).T
    filled = opacity > 0
    assert filled.sum() == 8 * 6, "the voxels of the spleen that are missed, and no others"
    assert {(r, g, b) for r, g, b in zip(red[filled], green[filled], blue[filled], strict=True)} == {SPLEEN.colour}
    rows, columns = np.nonzero(wrong[..., 3])
    assert columns.min() > wrong.shape[1] / 2, "the patient's left is on the viewer's right"
    (shared,) = re.findall(r'href="(data:[^"]+)"', drawn.image)
    grey = np.asarray(decoded(shared).convert("L"))
    assert grey[rows, columns].mean() > 240
    assert grey[:, : grey.shape[1] // 3].mean() < 5


def test_contours_follow_the_organs_in_millimetres(tmp_path: Path) -> None:
    label, prediction, _ = files(tmp_path)
    volumes, _ = read_volumes(label, {"m": prediction}, None)
    drawn = draw_slice(volumes, (0, 5), IDS, None, "ct1")
    paths = ElementTree.fromstring(drawn.truth).findall(".//path")
    colours = {
        f"#{red:02x}{green:02x}{blue:02x}": name
        for name, (red, green, blue) in (("liver", LIVER.colour), ("spleen", SPLEEN.colour))
    }
    outlines = {colours[path.get("stroke", "")]: path.get("d", "") for path in paths}
    points = np.array(
        [[float(part) for part in pair.split()] for pair in re.findall(r"[\d.]+ [\d.]+", outlines["spleen"])]
    )
    assert np.ptp(points[:, 0]) == pytest.approx(6 * 1.0, abs=0.01), "columns 28 to 33, 1 mm each"
    assert np.ptp(points[:, 1]) == pytest.approx(8 * 2.0, abs=0.01), "rows 10 to 17, 2 mm each"
    predicted = ElementTree.fromstring(drawn.panels["m"] or "").findall(".//path")
    assert sum(path.get("stroke-dasharray") is not None for path in predicted) == 1, "the liver alone is predicted"


def test_ignored_voxels_are_neither_right_nor_wrong(tmp_path: Path) -> None:
    array = truth()
    array[0, :5, :5] = 9
    label = write_volume(tmp_path / "label.nii.gz", array)
    volumes, _ = read_volumes(label, {"m": files(tmp_path)[1]}, None)
    assert wrong_slices(volumes, 9)[0] == (0, 5)
    panel = draw_slice(volumes, (0, 0), IDS, 9, "ct1").panels["m"] or ""
    (source,) = re.findall(r'href="(data:[^"]+)"', panel)
    assert np.asarray(decoded(source))[..., 3].max() == 0


def test_what_does_not_fit_is_left_out_and_named(tmp_path: Path) -> None:
    label, prediction, _ = files(tmp_path)
    small = write_volume(tmp_path / "small.nii.gz", np.zeros((2, 3, 4), np.uint8))
    (tmp_path / "broken.nii.gz").write_bytes(b"no")
    volumes, problems = read_volumes(label, {"a": small, "b": prediction, "c": tmp_path / "broken.nii.gz"}, small)
    assert len(problems) == 3
    assert "small.nii.gz is not drawn because its grid is not the label's: size (4, 3, 2)" in problems[0]
    assert volumes.ct is None
    assert draw_slice(volumes, wrong_slices(volumes, None)[0], IDS, None, "x").panels["a"] is None


def test_a_single_slice_and_an_empty_one(tmp_path: Path) -> None:
    flat = write_volume(tmp_path / "flat.nii.gz", np.zeros((1, 8, 8), np.uint8))
    volumes, _ = read_volumes(flat, {"m": flat}, None)
    assert wrong_slices(volumes, None) == [(0, 0)]
    assert "axial slice 1 of 1" in draw_slice(volumes, (0, 0), IDS, None, "x").title


def test_legend() -> None:
    assert legend(IDS)[1] == ("liver", "#aa4b2d")
