import numpy as np
import pytest

from unetr_nnunet.images.voxel_values import compact, refuse_not_finite


@pytest.mark.parametrize(
    ("values", "stored", "expected"),
    [
        ([-1024, 3000], np.int16, np.int16),
        ([-1024, 3000], np.int64, np.int16),
        ([0, 4095], np.uint16, np.int16),
        ([0, 40000], np.uint16, np.int32),
        ([-128, 127], np.int8, np.int16),
        ([0, 1], bool, np.int16),
        ([0, 2**32 - 256], np.uint32, np.float32),
        ([-0.5, 3.25], np.float64, np.float32),
        ([-0.5, 3.25], np.float32, np.float32),
        ([1, 2], np.float64, np.float32),
    ],
)
def test_the_smallest_type_that_holds_a_ct(values: list[float], stored: type, expected: type) -> None:
    result = compact(np.array([[values]], stored))
    assert result.dtype == expected
    assert result.ravel().tolist() == values


def test_fitting_voxels_are_not_copied() -> None:
    for dtype in (np.int16, np.float32):
        voxels = np.zeros((2, 3, 4), dtype)
        assert compact(voxels) is voxels


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite(bad: float) -> None:
    voxels = np.zeros((3, 4, 5), np.float32)
    refuse_not_finite(voxels, "scan.nrrd")
    voxels[1, 2, 3] = voxels[2, 0, 0] = bad
    with pytest.raises(ValueError, match=r"scan\.nrrd holds 2 voxels that are NaN or infinite"):
        refuse_not_finite(voxels, "scan.nrrd")
    refuse_not_finite(np.full((1, 1, 1), 2**31 - 1, np.int32), "scan.nrrd")


def test_beyond_float32_is_infinite() -> None:
    with pytest.raises(ValueError, match="1 voxels"):
        refuse_not_finite(compact(np.array([[[1e300, 0]]])), "scan.nii")
