"""One pair of files: what is refused, what is resampled, and on which grid it is scored."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from unetr_nnunet.evaluation.case import ScoredColumns, evaluate_case, refuse_unknown_labels
from unetr_nnunet.evaluation.figures import CaseFigures, Grid
from unetr_nnunet.evaluation.protocols import PROTOCOLS
from unetr_nnunet.nnunet.label_table import LabelTable
from unetr_nnunet.organs import ORGAN_NAMES

BTCV = LabelTable({name: label for label, name in ORGAN_NAMES.items()}, None, "a test")


def score(
    folder: Path, prediction: sitk.Image, label: sitk.Image, protocol: str = "nnunet", resample: bool = False
) -> CaseFigures:
    paths = folder / "prediction.nii.gz", folder / "label.nii.gz"
    for path, image in zip(paths, (prediction, label), strict=True):
        sitk.WriteImage(image, str(path))
    columns = PROTOCOLS[protocol].columns_of(BTCV)
    wanted = ScoredColumns(PROTOCOLS[protocol], columns, dict.fromkeys(columns, 1.0))
    return evaluate_case(*paths, BTCV, [wanted], resample)[0]


def ball(size: tuple[int, int, int], spacing: tuple[float, float, float], radius_mm: float) -> sitk.Image:
    """A liver around (30, 30, 30) mm on a grid (x, y, z) that starts at 0."""
    z, y, x = (
        np.arange(n)[(..., *[None] * after)] * s - 30
        for n, s, after in zip(size[::-1], spacing[::-1], (2, 1, 0), strict=True)
    )
    image = sitk.GetImageFromArray(np.where(z**2 + y**2 + x**2 <= radius_mm**2, 6, 0).astype(np.uint8))
    image.SetSpacing(spacing)
    return image


@pytest.fixture
def label() -> sitk.Image:
    return ball((76, 76, 21), (0.8, 0.8, 3.0), 20)


def test_a_mask_on_the_protocols_grid_is_taken_as_it_is(tmp_path: Path, label: sitk.Image) -> None:
    """As UNETR's script does it: 60 mm are 41 voxels of 1.5 mm and 31 of 2 mm, from one first centre to the last."""
    prediction = sitk.DICOMOrient(ball((41, 41, 31), (1.5, 1.5, 2.0), 18), "RAS")
    result = score(tmp_path, prediction, label, "unetr")
    assert result.resampled is None
    assert result.grid == Grid([31, 41, 41], [2.0, 1.5, 1.5], 31 * 41 * 41)
    voxels = int(np.count_nonzero(sitk.GetArrayViewFromImage(prediction)))
    assert result.organs["liver"].prediction_voxels == voxels
    assert result.organs["liver"].dice == pytest.approx(2 * 18**3 / (18**3 + 20**3), abs=0.01)  # balls within balls
    with pytest.raises(ValueError, match="different grids: size"):
        score(tmp_path, prediction, label)


def test_masks_on_the_labels_grid_are_resampled_by_the_protocol(tmp_path: Path, label: sitk.Image) -> None:
    result = score(tmp_path, ball((76, 76, 21), (0.8, 0.8, 3.0), 18), label, "unetr")
    assert result.resampled is None, "the protocol says so itself"
    assert result.grid.spacing_mm == [2.0, 1.5, 1.5]
    assert result.organs["liver"].volume_ml == pytest.approx(4 / 3 * np.pi * 1.8**3, rel=0.02)


def test_a_coarser_prediction_is_resampled_where_asked(tmp_path: Path, label: sitk.Image) -> None:
    coarse = ball((16, 16, 16), (4.0, 4.0, 4.0), 20)
    result = score(tmp_path, coarse, label, resample=True)
    assert result.resampled is not None
    assert "size (16, 16, 16) against (76, 76, 21)" in result.resampled
    assert result.grid.size == [21, 76, 76]
    assert result.organs["liver"].dice > 0.93
    half = coarse[:, :, 8:]  # covers the upper half of the label only
    result = score(tmp_path, half, label, resample=True)
    assert result.organs["liver"].recall == pytest.approx(0.5, abs=0.05)
    share = float(result.resampled.split(";")[-1].split("%")[0])  # type: ignore[union-attr]
    assert share == pytest.approx(50, abs=3)


def test_ignored_voxels_are_not_counted_as_scored(tmp_path: Path) -> None:
    truth = sitk.GetImageFromArray(np.array([[[6, 6, 14, 0]]], np.uint8))
    prediction = sitk.GetImageFromArray(np.array([[[6, 6, 6, 0]]], np.uint8))
    for name, image in (("p", prediction), ("t", truth)):
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    table = LabelTable(BTCV.organs, 14, "a test")
    columns = {"liver": (6,)}
    wanted = [ScoredColumns(PROTOCOLS["nnunet"], columns, {"liver": 1.0})]
    (result,) = evaluate_case(tmp_path / "p.nii.gz", tmp_path / "t.nii.gz", table, wanted)
    assert result.grid.scored_voxels == 3
    assert result.organs["liver"].dice == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 13], None),
        ([0, 14], r"the prediction holds label\(s\) 14, which the label table does not name"),
        ([-1, 300, 7], r"label\(s\) -1, 300,"),
        ([], "has no voxels"),
        (range(20, 40), r"20, 21, 22, 23, 24, 25, 26, 27, 28, 29, \.\.\.,"),
    ],
)
def test_unknown_labels_are_named(labels: list[int], message: str | None) -> None:
    array = np.array(labels, np.int32).reshape(1, 1, -1)
    if message is None:
        refuse_unknown_labels(array, BTCV, "prediction")
    else:
        with pytest.raises(ValueError, match=message):
            refuse_unknown_labels(array, BTCV, "prediction")


def test_labels_that_are_not_scored_may_occur() -> None:
    table = LabelTable({"liver": 1}, 3, "a test", not_scored={"veins": 2})
    refuse_unknown_labels(np.array([[[0, 1, 2, 3]]]), table, "truth")
