import pytest
import SimpleITK as sitk

from tests.inference.small_model import plans, write_model
from unetr_nnunet.inference.case_size import grid_voxels, needed_bytes, probability_bytes
from unetr_nnunet.inference.model import load_model


def test_slices_are_counted_by_their_distance(tmp_path):
    model = load_model(write_model(tmp_path, plans(patch=(32, 32), spacing=(0.75, 0.75))), None)
    image = sitk.Image(512, 512, 100, sitk.sitkInt16)
    image.SetSpacing((0.75, 0.75, 5.0))
    grid = 512 * 512 * 100
    assert grid_voxels(model, [image]) == pytest.approx(grid)
    assert needed_bytes(model, [image]) == pytest.approx(grid * (4 + 2 * 4 + 5 + 14), rel=1e-6)
    assert probability_bytes(model, [image]) == 2 * 4 * grid


def test_a_finer_image_has_fewer_voxels_on_the_grid(tmp_path):
    model = load_model(write_model(tmp_path), None)  # 3 x 1.5 x 1.5 mm
    image = sitk.Image(100, 100, 60, sitk.sitkInt16)
    image.SetSpacing((0.75, 0.75, 1.5))
    assert grid_voxels(model, [image]) == pytest.approx(100 * 100 * 60 / 8)
