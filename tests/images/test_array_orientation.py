from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient

from unetr_nnunet.images.array_orientation import common_orientation, orientation_code

CODES = ["".join(ends) for axes in permutations(("RL", "AP", "SI")) for ends in product(*axes)]
TILTED = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.4).GetMatrix()


def properties(reader: Any, path: Path) -> dict[str, Any]:
    found: dict[str, Any] = reader().read_images([str(path)])[1]
    return found


def itk_code(image: sitk.Image) -> str:
    return str(sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()))


@pytest.mark.parametrize("direction", [tuple(np.eye(3).ravel()), TILTED], ids=["straight", "oblique"])
def test_codes_are_those_of_nibabel_and_itk_for_each_reader(
    tmp_path: Path, direction: tuple[float, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    image = sitk.GetImageFromArray(np.zeros((3, 4, 5), np.int16))
    image.SetSpacing((0.7, 0.8, 3.0))
    image.SetDirection(direction)
    assert len(set(CODES)) == 48
    for code in CODES:
        path = tmp_path / f"{code}.nii.gz"
        oriented = sitk.DICOMOrient(image, code)
        sitk.WriteImage(oriented, str(path))
        assert itk_code(oriented) == "".join(nibabel.aff2axcodes(nibabel.load(path).affine)) == code
        for reader in (SimpleITKIO, NibabelIO):
            assert orientation_code(properties(reader, path)) == code
        for reader in (SimpleITKIOWithReorient, NibabelIOWithReorient):
            assert orientation_code(properties(reader, path)) == "RAS"


def test_the_orientation_is_known_where_all_cases_share_it(tmp_path: Path) -> None:
    image = sitk.Image(5, 4, 3, sitk.sitkInt16)
    for code in ("LPS", "RAS"):
        sitk.WriteImage(sitk.DICOMOrient(image, code), str(tmp_path / f"{code}.nii.gz"))
    lps, ras = (properties(SimpleITKIO, tmp_path / f"{code}.nii.gz") for code in ("LPS", "RAS"))
    assert common_orientation([("a", lps), ("b", lps)]) == "LPS"
    assert common_orientation([("a", lps), ("b", ras)]) is None
    assert common_orientation([("a", lps), ("b", {"spacing": [1, 1, 1]})]) is None
    assert common_orientation([]) is None


def test_a_flat_image_has_no_orientation(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Image(5, 4, sitk.sitkInt16), str(tmp_path / "flat.mha"))
    with pytest.raises(ValueError, match="no direction among the properties"):
        orientation_code(properties(SimpleITKIO, tmp_path / "flat.mha"))
