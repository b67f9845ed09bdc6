"""A short run of the real-CT benchmark: real files through every stage, masks back in each image's own geometry."""

from pathlib import Path

import pytest
import SimpleITK as sitk

from benchmarks.real_ct import CASE, DEFAULT_DATA, SLAB, geometry_differences, run_chain


@pytest.mark.slow
@pytest.mark.skipif(not DEFAULT_DATA.is_dir(), reason="the two real CTs are not on this machine")
def test_masks_come_back_in_the_geometry_of_real_images(tmp_path: Path) -> None:
    run_chain(DEFAULT_DATA, tmp_path, "nnUNetTrainerUNETR_Modified_Tiny_NoAug_1epochs_seed0", (32, 32, 32))
    for name in (CASE, SLAB):
        image = sitk.ReadImage(str(tmp_path / "inputs" / f"{name}_0000.nii.gz"))
        assert geometry_differences(image, sitk.ReadImage(str(tmp_path / "predictions" / f"{name}.nii.gz"))) == []
    mask = sitk.ReadImage(str(tmp_path / "predictions" / f"{CASE}.nii.gz"))
    statistics = sitk.StatisticsImageFilter()
    statistics.Execute(mask)
    assert statistics.GetMaximum() > 0, "something was learnt"


def test_a_moved_mask_is_noticed() -> None:
    image, mask = sitk.Image(4, 5, 6, sitk.sitkInt16), sitk.Image(4, 5, 6, sitk.sitkUInt8)
    assert geometry_differences(image, mask) == []
    mask.SetOrigin((0, 0, 1))
    assert geometry_differences(image, mask) == ["origin"]
    assert geometry_differences(image, sitk.Image(4, 5, 7, sitk.sitkUInt8)) == ["size"]
