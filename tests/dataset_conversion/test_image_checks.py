import nibabel
import numpy as np
import pytest

from unetr_nnunet.dataset_conversion.image_checks import (
    finite_problems,
    geometry_problems,
    hounsfield_problems,
    label_value_problems,
    pair_problems,
    read_image,
    read_label,
    rewrite_reasons,
)
from unetr_nnunet.dataset_conversion.source_files import SourceFile

# in-plane 0.8 x 0.7 mm, slices 3 mm apart, axes to the left, front and head
AFFINE = np.array([[-0.8, 0, 0, 50], [0, 0.7, 0, -40], [0, 0, 3, 10], [0, 0, 0, 1]])


@pytest.fixture
def scan(tmp_path):
    """Save voxels (X, Y, Z) with an affine, and read them with the function under test."""

    def save_and_read(voxels, affine=AFFINE, reader=read_label, slope_inter=None):
        path = tmp_path / "img0001.nii.gz"
        image = nibabel.Nifti1Image(voxels, affine)
        if slope_inter:
            image.header.set_slope_inter(*slope_inter)
        nibabel.save(image, path)
        file = SourceFile(path.name, path.stat().st_size, 0, path=path)
        return file, reader(file)

    return save_and_read


@pytest.fixture
def geometry(scan):
    return lambda affine: scan(np.zeros((4, 3, 2), np.uint8), affine)


def shifted(row, column, by):
    affine = AFFINE.copy()
    affine[row, column] += by
    return affine


def rotated(angle_rad):
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[cosine, -sine, 0, 0], [sine, cosine, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ AFFINE


def test_reads_what_nibabel_reads(scan):
    voxels = np.random.default_rng(0).integers(-3000, 3000, (7, 5, 3)).astype(np.int16)
    for dtype in (np.int16, np.float32):
        _, volume = scan(voxels.astype(dtype), reader=read_image)
        assert volume.shape == (7, 5, 3)
        assert (volume.minimum, volume.maximum) == (voxels.min(), voxels.max())
        grid, notes = volume.geometry()
        assert np.diag((-1, -1, 1, 1)) @ grid.affine() == pytest.approx(AFFINE)
        assert notes == []


def test_scaling_is_applied_to_the_values(scan):
    _, volume = scan(np.array([[[0, 100, 2000]]], np.int16), reader=read_image, slope_inter=(1, -1024))
    stored = nibabel.Nifti1Image(np.array([[[0, 100, 2000]]], np.int16), AFFINE)
    stored.header.set_slope_inter(1, -1024)
    assert volume.minimum == nibabel.Nifti1Image.from_bytes(stored.to_bytes()).get_fdata().min()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_values_that_occur(dtype, scan):
    _, volume = scan(np.array([[[0, 3, 13, 3]]], dtype))
    assert volume.values == {0, 3, 13}
    _, without_background = scan(np.array([[[1, 3]]], dtype))
    assert without_background.values == {1, 3}


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        (shifted(1, 3, 0.34), shifted(1, 3, 0.36)),
        (shifted(2, 2, 0.02), shifted(2, 2, 0.4)),
        (rotated(0.003), rotated(0.01)),
    ],
    ids=["origin", "spacing", "direction"],
)
def test_a_label_may_lie_less_than_half_a_voxel_beside_its_image(inside, outside, geometry):
    _, image = geometry(AFFINE)
    file, label = geometry(inside)
    assert pair_problems(file, label, image) == []
    assert len(rewrite_reasons(label, image)) == 1
    file, label = geometry(outside)
    (problem,) = pair_problems(file, label, image)
    assert problem.fact.startswith("lies on another grid than its image: ")


def test_equal_geometry_needs_nothing(geometry):
    file, image = geometry(AFFINE)
    assert geometry_problems(file, image) == []
    assert pair_problems(file, image, image) == []
    assert rewrite_reasons(image, image) == []


def test_rotated_axes_are_fine_slightly_sheared_ones_are_noted_others_are_not(geometry):
    assert geometry_problems(*geometry(rotated(0.3))) == []
    file, volume = geometry(shifted(0, 1, 0.01))
    assert geometry_problems(file, volume) == []
    assert "not exactly at right angles" in volume.geometry()[1][0]
    problem = geometry_problems(*geometry(shifted(0, 1, 0.02)))[0]
    assert "not orthonormal" in problem.fact
    assert problem.remedy


def test_qform_and_sform_apart_and_none_at_all_are_refused_as_predict_does(scan):
    for codes, fact in (((1, 1), "its qform and sform place it 11.6 mm apart"), ((0, 0), "does not say how")):
        file, volume = scan(np.zeros((4, 3, 2), np.uint8))
        volume.header.set_qform(shifted(1, 3, 11.6), codes[0])
        volume.header.set_sform(AFFINE, codes[1])
        (problem,) = geometry_problems(file, volume)
        assert fact in problem.fact


def test_empty_affine(geometry):
    file, volume = geometry(AFFINE)
    volume.header["srow_z"] = 0
    assert "not orthonormal" in geometry_problems(file, volume)[0].fact


@pytest.mark.parametrize(
    ("low", "high", "accepted"),
    [
        (-1024, 1500, True),
        (-3024, 3071, True),
        (-1000, 30000, True),
        (-400, 1500, False),
        (-5000, 1500, False),
        (-1024, 50, False),
        (0, 4095, False),
    ],
)
def test_hounsfield_range(low, high, accepted, scan):
    file, volume = scan(np.array([[[low, 0, high]]], np.int16), reader=read_image)
    assert (hounsfield_problems(file, volume) == []) is accepted


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_values_that_are_not_finite(value, scan):
    file, volume = scan(np.array([[[-1000, value, 500]]], np.float32), reader=read_image)
    assert "NaN or infinite" in finite_problems(file, volume)[0].fact


def test_finite_values_are_fine(scan):
    assert finite_problems(*scan(np.array([[[-1000, 0, 500]]], np.int16), reader=read_image)) == []


@pytest.mark.parametrize(("value", "accepted"), [(13, True), (13.5, False), (14, False), (-0.5, False), (256.0, False)])
def test_label_values(value, accepted, scan):
    file, volume = scan(np.array([[[0, 1, value]]], np.float32))
    assert (label_value_problems(file, volume, highest=13) == []) is accepted
