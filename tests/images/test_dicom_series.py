import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import (
    EnhancedCTImageStorage,
    generate_uid,
)
from scipy.spatial.transform import Rotation

from tests.images.dicom_encodings import (
    COMPRESSED,
    bytes_swapped,
    deflated,
    implicit,
    signed,
)
from tests.images.scans import (
    ORIGIN_MM,
    SPACING_MM,
    STORED_MINUS_HU,
    hounsfield,
    read_series,
    refuses,
    slice_dataset,
    stored,
    volume,
    write_series,
)
from unetr_nnunet.images.cases import find_cases
from unetr_nnunet.images.grid import grid_differences, notes_of
from unetr_nnunet.images.read import read_case

Edit = Callable[[int, pydicom.Dataset], None]


def test_slices_in_any_order(tmp_path: Path) -> None:
    files = write_series(tmp_path)
    for order in (files, files[::-1], sorted(files), [files[index] for index in (3, 0, 5, 1, 4, 2)]):
        image = read_series(order)
        assert np.array_equal(sitk.GetArrayFromImage(image), hounsfield())
        assert grid_differences(image, volume()) == []


def test_the_real_series_lies_on_its_label_s_grid(real_ct: Path) -> None:
    slab = real_ct / "upper_abdomen_slab"
    files = sorted((slab / "dicom").iterdir())
    image, label = read_series(files), sitk.ReadImage(str(slab / "label.nii.gz"))
    assert image.GetSize() == label.GetSize()
    assert np.allclose(image.GetSpacing(), label.GetSpacing())
    assert np.allclose(image.GetOrigin(), label.GetOrigin())
    assert np.allclose(image.GetDirection(), label.GetDirection())
    for index, path in enumerate(sorted(files, key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])):
        dataset = pydicom.dcmread(path)
        values = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        assert np.array_equal(sitk.GetArrayFromImage(image)[index], values)


@pytest.mark.parametrize("transfer", [bytes_swapped, implicit, deflated, *COMPRESSED])
def test_every_transfer_syntax(tmp_path: Path, transfer: Edit) -> None:
    assert np.array_equal(sitk.GetArrayFromImage(read_series(write_series(tmp_path, transfer))), hounsfield())


def every_other_signed(number: int, dataset: pydicom.Dataset) -> None:
    if number % 2:
        signed(number, dataset)


def own_intercepts(number: int, dataset: pydicom.Dataset) -> None:
    dataset.RescaleIntercept = -STORED_MINUS_HU - 100 * number
    dataset.PixelData = (stored(dataset) + 100 * number).astype("<u2").tobytes()


def half_slope(number: int, dataset: pydicom.Dataset) -> None:
    dataset.RescaleSlope = 0.5
    dataset.PixelData = (2 * stored(dataset)).astype("<u2").tobytes()


def own_slopes(number: int, dataset: pydicom.Dataset) -> None:
    if number:
        half_slope(number, dataset)


@pytest.mark.parametrize("edit", [signed, every_other_signed, own_intercepts, half_slope, own_slopes])
def test_hounsfield_units_however_they_are_stored(tmp_path: Path, edit: Edit) -> None:
    assert np.array_equal(sitk.GetArrayFromImage(read_series(write_series(tmp_path, edit))), hounsfield())


def test_unsigned_slices_before_a_negative_one(tmp_path: Path) -> None:
    def edit(number: int, dataset: pydicom.Dataset) -> None:
        if number == 0:
            dataset.RescaleIntercept = 0

    expected = hounsfield()
    expected[0] += STORED_MINUS_HU
    assert np.array_equal(sitk.GetArrayFromImage(read_series(write_series(tmp_path, edit))), expected)


@pytest.mark.parametrize("orientation", [[0, 1, 0, 0, 0, -1], [-1, 0, 0, 0, -1, 0], [0.8, 0.6, 0, -0.6, 0.8, 0]])
def test_other_planes(tmp_path: Path, orientation: list[float]) -> None:
    normal = np.cross(orientation[:3], orientation[3:]).astype(float)

    def edit(number: int, dataset: pydicom.Dataset) -> None:
        dataset.ImageOrientationPatient = orientation
        dataset.ImagePositionPatient = [round(float(x), 6) for x in ORIGIN_MM + number * SPACING_MM[2] * normal]

    image = read_series(write_series(tmp_path, edit)[::-1])
    assert np.array_equal(sitk.GetArrayFromImage(image), hounsfield())
    expected = volume()
    expected.SetDirection(np.stack([orientation[:3], orientation[3:], normal], axis=1).ravel())
    assert grid_differences(image, expected) == []


def test_rounded_positions_are_no_gaps(tmp_path: Path) -> None:
    def edit(number: int, dataset: pydicom.Dataset) -> None:
        dataset.ImagePositionPatient = [*ORIGIN_MM[:2], round(number * 0.625, 1)]

    assert read_series(write_series(tmp_path, edit)).GetSpacing()[2] == pytest.approx(0.62, abs=0.01)


@pytest.mark.parametrize("shift_mm", [0.001, 0.01, 0.04])
def test_a_small_tilt_is_taken_as_upright_and_said(tmp_path: Path, shift_mm: float) -> None:
    def edit(number: int, dataset: pydicom.Dataset) -> None:
        dataset.ImagePositionPatient = [-50, 40 + number * shift_mm, -110 + number * 2.5]

    image = read_series(write_series(tmp_path, edit))
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert image.GetSpacing()[2] == pytest.approx(2.5, abs=1e-3)
    expected = ["its slices are shifted against each other by 0.2 mm in all; taken as an upright stack"]
    assert notes_of(image) == (expected if shift_mm == 0.04 else [])


@pytest.mark.parametrize("decimals", [2, 3])
def test_rounded_directions_are_mended_and_said(tmp_path: Path, decimals: int) -> None:
    turn = Rotation.from_euler("xyz", (7, -12, 20), degrees=True).as_matrix()

    def edit(number: int, dataset: pydicom.Dataset) -> None:
        dataset.ImageOrientationPatient = [round(float(x), decimals) for x in turn[:, :2].T.ravel()]
        dataset.ImagePositionPatient = [round(float(x), 4) for x in ORIGIN_MM + number * SPACING_MM[2] * turn[:, 2]]

    image = read_series(write_series(tmp_path, edit))
    axes = np.reshape(image.GetDirection(), (3, 3))
    assert np.allclose(axes, turn, atol=10**-decimals)
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    assert any("not exactly at right angles" in note for note in notes_of(image))


def test_one_slice_is_as_thick_as_it_says(tmp_path: Path) -> None:
    files = write_series(tmp_path)
    image = read_series(files[:1])
    assert image.GetSize()[2] == 1
    assert image.GetSpacing() == SPACING_MM
    bare = write_series(tmp_path / "bare", lambda number, dataset: dataset.pop("SliceThickness"))
    refuses(bare[:1], "single slice without a thickness")


@pytest.mark.parametrize("shape_zyx", [(3, 1, 1), (3, 1, 4), (3, 4, 1), (1, 1, 3), (1, 3, 1)])
def test_a_few_voxels(tmp_path: Path, shape_zyx: tuple[int, int, int]) -> None:
    image = read_series(write_series(tmp_path, voxels=hounsfield(shape_zyx)))
    assert np.array_equal(sitk.GetArrayFromImage(image), hounsfield(shape_zyx))
    assert grid_differences(image, volume(hounsfield(shape_zyx))) == []


@pytest.mark.slow
def test_five_thousand_slices(tmp_path: Path) -> None:
    voxels = np.arange(5000, dtype=np.int16).reshape(5000, 1, 1) - 1000

    def edit(number: int, dataset: pydicom.Dataset) -> None:
        dataset.ImagePositionPatient = [*ORIGIN_MM[:2], round(ORIGIN_MM[2] + number * 0.5, 1)]

    image = read_series(write_series(tmp_path, edit, voxels))
    assert np.array_equal(sitk.GetArrayFromImage(image), voxels)
    assert image.GetSpacing()[2] == pytest.approx(0.5)


def group(**attributes: object) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def write_enhanced(path: Path, order: Sequence[int], own_slopes: Sequence[float] = (), **changes: object) -> Path:
    """Write an Enhanced CT file with its frames in an order, or at other heights (in slices)."""
    values = (hounsfield()[[place % 6 for place in order]].astype(np.int32) + STORED_MINUS_HU).astype("<u2")
    dataset = copy.deepcopy(slice_dataset(0, values[0], generate_uid()))
    dataset.SOPClassUID = EnhancedCTImageStorage
    for keyword in ("PixelSpacing", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient"):
        delattr(dataset, keyword)
    del dataset.RescaleSlope, dataset.RescaleIntercept
    dataset.NumberOfFrames = len(order)
    dataset.PixelData = values.tobytes()
    rescale = {"RescaleIntercept": -STORED_MINUS_HU, "RescaleType": "HU"}
    shared = group(
        PixelMeasuresSequence=[group(PixelSpacing=[SPACING_MM[1], SPACING_MM[0]], SliceThickness=SPACING_MM[2])],
        PlaneOrientationSequence=[group(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
    )
    if not own_slopes:
        shared.PixelValueTransformationSequence = [group(RescaleSlope=1, **rescale)]
    frames = []
    for index, place in enumerate(order):
        position = [*ORIGIN_MM[:2], ORIGIN_MM[2] + place * SPACING_MM[2]]
        frames.append(group(PlanePositionSequence=[group(ImagePositionPatient=position)]))
        if own_slopes:
            transformation = group(RescaleSlope=own_slopes[index], **rescale)
            frames[-1].PixelValueTransformationSequence = [transformation]
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], frames
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("order", [range(6), range(5, -1, -1), (3, 1, 0, 5, 4, 2)])
@pytest.mark.parametrize("own_slopes", [(), (1,) * 6])
def test_an_enhanced_file_with_frames_in_any_order(
    tmp_path: Path, order: Sequence[int], own_slopes: Sequence[float]
) -> None:
    image = read_series([write_enhanced(tmp_path / "e.dcm", order, own_slopes)])
    assert np.array_equal(sitk.GetArrayFromImage(image), hounsfield())
    assert grid_differences(image, volume()) == []


@pytest.mark.parametrize(
    ("order", "own_slopes", "changes", "reason"),
    [
        ((0, 1, 2, 4, 5), (), {}, "5 mm between frame 3 and frame 4"),
        ((0, 1, 2, 2, 3), (), {}, "frame 3 and frame 4 lie at the same position"),
        (range(6), (1, 1, 2, 1, 1, 1), {}, "rescales each of its frames differently"),
        (range(6), (), {"PerFrameFunctionalGroupsSequence": []}, "does not say where they lie"),
        (range(6), (), {"SharedFunctionalGroupsSequence": []}, "does not say where they lie"),
        (range(6), (), {"SharedFunctionalGroupsSequence": [group()]}, "tells no position, orientation"),
        (range(6), (), {"NumberOfFrames": 7}, "cut short"),
        (range(6), (), {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour"),
    ],
)
def test_a_wrong_enhanced_file(
    tmp_path: Path, order: Sequence[int], own_slopes: Sequence[float], changes: dict[str, object], reason: str
) -> None:
    refuses([write_enhanced(tmp_path / "e.dcm", order, own_slopes, **changes)], reason)


def test_headers_are_read_once_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "slices")
    (tmp_path / "enhanced").mkdir()
    write_enhanced(tmp_path / "enhanced" / "e.dcm", range(6))
    cases = find_cases(tmp_path, 1, "CT")[0]
    monkeypatch.setattr(pydicom, "dcmread", None)
    for case in cases:
        assert np.array_equal(sitk.GetArrayFromImage(read_case(case)[0]), hounsfield())
    assert len(cases) == 2
