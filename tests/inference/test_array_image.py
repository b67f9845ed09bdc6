import numpy as np
import pytest
import SimpleITK as sitk

from unetr_nnunet.inference.array_image import array_as_images

CT = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
SPACING = (3.0, 0.8, 0.7)


@pytest.mark.parametrize("kind", ["<i2", ">i2", "<f2", ">f4", "<f8", "<i8", "<u2"])
def test_values_arrive_whatever_their_type(kind):
    array = np.abs(CT) if kind == "<u2" else CT
    (image,) = array_as_images(array.astype(kind), SPACING, "RAS", 1)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array.astype(kind).astype(np.float64))
    assert image.GetSpacing() == SPACING[::-1]
    assert sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()) == "RAS"


def test_channels_and_lists_are_taken():
    first, second = array_as_images([CT.tolist(), (CT + 1).tolist()], list(SPACING), "LPS", 2)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(second), sitk.GetArrayFromImage(first) + 1)


@pytest.mark.parametrize(
    ("image", "spacing", "said"),
    [
        (CT[0], SPACING, r"shape \(5, 6\); \(Z, Y, X\) is needed"),
        (np.stack([CT, CT]), SPACING, r"2 channel\(s\).*the model takes 1"),
        (CT[:0], SPACING, "no voxels"),
        (CT > 0, SPACING, "type bool; intensities"),
        (CT.astype(complex), SPACING, "type complex128; intensities"),
        (np.where(CT[0, 0, 0] == CT, np.nan, CT), SPACING, "channel 0 holds .* voxels that are NaN"),
        (CT, (3.0, 0.8, 0.7, 1.0), "three lengths in mm"),
        (CT, (3.0, 0.8), "three lengths in mm"),
        (CT, (0.003, 0.0008, 0.0008), "0.01 mm at least.*in millimetres"),
        (CT, (3.0, np.nan, 0.8), "0.01 mm at least"),
        (CT, (-3.0, 0.8, 0.8), "0.01 mm at least"),
        (CT, (3000.0, 800.0, 800.0), "more than any scanner's table"),
    ],
)
def test_what_is_not_a_scan_is_refused(image, spacing, said):
    with pytest.raises(ValueError, match=said):
        array_as_images(image, spacing, "RAS", 1)
