import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from tests.images.scans import (
    ORIGIN_MM,
    SPACING_MM,
    STORED_MINUS_HU,
    hounsfield,
    slice_dataset,
    volume,
    write_series,
)
from unetr_nnunet.images.dicom_series import read_series
from unetr_nnunet.images.grid import grid_differences

Edit = Callable[[int, pydicom.Dataset], None]


def stored(dataset: pydicom.Dataset) -> np.ndarray:
    return np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)


def hu_of(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def test_slices_in_any_order(tmp_path: Path) -> None:
    files = write_series(tmp_path)
    for order in (files, files[::-1], sorted(files), [files[index] for index in (3, 0, 5, 1, 4, 2)]):
        image = read_series(order)
        assert np.array_equal(hu_of(image), hounsfield())
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
        assert np.array_equal(hu_of(image)[index], values)


def bytes_swapped(number: int, dataset: pydicom.Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.PixelData = stored(dataset).astype(">u2").tobytes()


def implicit(number: int, dataset: pydicom.Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def deflated(number: int, dataset: pydicom.Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


def run_length(number: int, dataset: pydicom.Dataset) -> None:
    dataset.compress(RLELossless)


def jpeg_ls(number: int, dataset: pydicom.Dataset) -> None:
    dataset.compress(JPEGLSLossless)


def encoded(dataset: pydicom.Dataset, syntax: str, frame: bytes) -> None:
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax


def jpeg_lossless(number: int, dataset: pydicom.Dataset) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    frame = imagecodecs.jpeg_encode(stored(dataset), lossless=True, bitspersample=16, predictor=1)
    encoded(dataset, JPEGLosslessSV1, frame)


def jpeg_2000(number: int, dataset: pydicom.Dataset) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    encoded(dataset, JPEG2000Lossless, imagecodecs.jpeg2k_encode(stored(dataset), codecformat="j2k", reversible=True))


COMPRESSED = [run_length, jpeg_ls, jpeg_lossless, jpeg_2000]


@pytest.mark.parametrize("transfer", [bytes_swapped, implicit, deflated, *COMPRESSED])
def test_every_transfer_syntax(tmp_path: Path, transfer: Edit) -> None:
    assert np.array_equal(hu_of(read_series(write_series(tmp_path, transfer))), hounsfield())


def signed(number: int, dataset: pydicom.Dataset) -> None:
    dataset.PixelData = (stored(dataset).astype(np.int16) - STORED_MINUS_HU).astype("<i2").tobytes()
    dataset.PixelRepresentation, dataset.RescaleIntercept = 1, 0


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
    assert np.array_equal(hu_of(read_series(write_series(tmp_path, edit))), hounsfield())


def test_unsigned_slices_before_a_negative_one(tmp_path: Path) -> None:
    def edit(number: int, dataset: pydicom.Dataset) -> None:
        if number == 0:
            dataset.RescaleIntercept = 0

    expected = hounsfield()
    expected[0] += STORED_MINUS_HU
    assert np.array_equal(hu_of(read_series(write_series(tmp_path, edit))), expected)


@pytest.mark.parametrize("orientation", [[0, 1, 0, 0, 0, -1], [-1, 0, 0, 0, -1, 0], [0.8, 0.6, 0, -0.6, 0.8, 0]])
def test_other_planes(tmp_path: Path, orientation: list[float]) -> None:
    normal = np.cross(orientation[:3], orientation[3:]).astype(float)

    def edit(number: int, dataset: pydicom.Dataset) -> None:
        dataset.ImageOrientationPatient = orientation
        dataset.ImagePositionPatient = [round(float(x), 6) for x in ORIGIN_MM + number * SPACING_MM[2] * normal]

    image = read_series(write_series(tmp_path, edit)[::-1])
    assert np.array_equal(hu_of(image), hounsfield())
    expected = volume()
    expected.SetDirection(np.stack([orientation[:3], orientation[3:], normal], axis=1).ravel())
    assert grid_differences(image, expected) == []


def test_rounded_positions_are_no_gaps(tmp_path: Path) -> None:
    def edit(number: int, dataset: pydicom.Dataset) -> None:
        dataset.ImagePositionPatient = [*ORIGIN_MM[:2], round(number * 0.625, 1)]

    assert read_series(write_series(tmp_path, edit)).GetSpacing()[2] == pytest.approx(0.62, abs=0.01)


def test_a_tilt_within_rounding_is_none(tmp_path: Path) -> None:
    def edit(number: int, dataset: pydicom.Dataset) -> None:
        dataset.ImagePositionPatient = [-50, 40 + number * 0.01, -110 + number * 2.5]

    image = read_series(write_series(tmp_path, edit))
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert image.GetSpacing()[2] == pytest.approx(2.5, abs=1e-3)


def test_one_slice_is_as_thick_as_it_says(tmp_path: Path) -> None:
    files = write_series(tmp_path)
    image = read_series(files[:1])
    assert image.GetSize()[2] == 1
    assert image.GetSpacing() == SPACING_MM
    bare = write_series(tmp_path / "bare", lambda number, dataset: dataset.pop("SliceThickness"))
    refused(bare[:1], "single slice without a thickness")


@pytest.mark.parametrize("shape_zyx", [(3, 1, 1), (3, 1, 4), (3, 4, 1), (1, 1, 3), (1, 3, 1)])
def test_a_few_voxels(tmp_path: Path, shape_zyx: tuple[int, int, int]) -> None:
    image = read_series(write_series(tmp_path, voxels=hounsfield(shape_zyx)))
    assert np.array_equal(hu_of(image), hounsfield(shape_zyx))
    assert grid_differences(image, volume(hounsfield(shape_zyx))) == []


@pytest.mark.slow
def test_five_thousand_slices(tmp_path: Path) -> None:
    voxels = np.arange(5000, dtype=np.int16).reshape(5000, 1, 1) - 1000
    image = read_series(write_series(tmp_path, voxels=voxels))
    assert np.array_equal(hu_of(image), voxels)
    assert grid_differences(image, volume(voxels)) == []


def refused(files: Sequence[Path], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        read_series(files)
    assert str(files[0].parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def only(which: int, **changes: object) -> Edit:
    """Change attributes of one slice; None deletes."""

    def edit(number: int, dataset: pydicom.Dataset) -> None:
        for keyword, value in changes.items():
            if number == which and value is None:
                delattr(dataset, keyword)
            elif number == which:
                setattr(dataset, keyword, value)

    return edit


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (only(2, SOPInstanceUID=None), r"5 mm between IM0005\.dcm and IM0003\.dcm where 2\.5 mm are usual"),
        (only(2, ImagePositionPatient=[-50, 40, -107.5]), r"IM0004\.dcm and IM0005\.dcm lie at the same position"),
        (only(2, ImagePositionPatient=[-50, 40, -105.5]), "unevenly spaced"),
        (only(2, SeriesInstanceUID="1.2.3"), "belong to different series"),
        (only(2, Rows=4), "differ in size, 10 x 8 and 10 x 4 pixels"),
        (only(2, PixelSpacing=[0.8, 0.8]), "differ in pixel spacing"),
        (only(2, ImageOrientationPatient=[0, 1, 0, -1, 0, 0]), "differ in orientation"),
        (only(2, ImagePositionPatient=None), "tells no position"),
        (only(2, ImagePositionPatient=[0, 0]), "tells no position"),
        (only(2, PhotometricInterpretation="RGB", SamplesPerPixel=3), r"colour or inverted image \(RGB\)"),
        (only(2, PhotometricInterpretation="MONOCHROME1"), r"inverted image \(MONOCHROME1\)"),
        (only(2, BitsAllocated=12), "12 bits"),
        (only(2, PixelData=None), "holds no pixels"),
        (only(2, PixelData=bytes(100)), "cut short: .* asks for 160"),
        (only(2, Rows=0), "holds no pixels"),
        (only(2, Rows=65535, Columns=65535), "cut short"),
        (only(2, RescaleSlope=0), "no usable rescale"),
        (only(2, NumberOfFrames=2, PixelData=bytes(320)), "2 frames among other slices"),
    ],
)
def test_one_wrong_slice(tmp_path: Path, edit: Edit, reason: str) -> None:
    refused(write_series(tmp_path, edit), reason)


def every(**changes: object) -> Edit:
    def edit(number: int, dataset: pydicom.Dataset) -> None:
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)

    return edit


def tilted(number: int, dataset: pydicom.Dataset) -> None:
    dataset.ImagePositionPatient = [-50, 40 + number * 0.3, -110 + number * 2.5]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (tilted, r"gantry tilt of 6\.8"),
        (every(PixelSpacing=[0, 0.7]), "must be above 0"),
        (every(PixelSpacing=[0.8, -0.7]), "must be above 0"),
        (every(ImageOrientationPatient=[1, 0, 0, 0.5, 0.866, 0]), "no unit vectors at right angles"),
        (every(ImageOrientationPatient=[2, 0, 0, 0, 1, 0]), "no unit vectors at right angles"),
    ],
)
def test_a_wrong_stack(tmp_path: Path, edit: Edit, reason: str) -> None:
    refused(write_series(tmp_path, edit), reason)


@pytest.mark.parametrize("transfer", [implicit, *COMPRESSED])
def test_a_slice_cut_short(tmp_path: Path, transfer: Edit) -> None:
    files = write_series(tmp_path, transfer)
    content = files[2].read_bytes()
    for kept in (0, 100, 400, len(content) // 2, len(content) - 60):
        files[2].write_bytes(content[:kept])
        refused(files, "cut short|cannot be decoded|damaged")


@pytest.mark.parametrize("transfer", [implicit, bytes_swapped, signed, run_length])
@pytest.mark.parametrize("inserted", [4, 6])
def test_bytes_inserted_into_the_pixel_data_s_header(tmp_path: Path, transfer: Edit, inserted: int) -> None:
    files = write_series(tmp_path, transfer)
    content = files[2].read_bytes()
    tag = b"\x7f\xe0\x00\x10" if transfer is bytes_swapped else b"\xe0\x7f\x10\x00"
    place = content.index(tag) + inserted
    files[2].write_bytes(content[:place] + b"\xf8\xc9" + content[place:])
    refused(files, "damaged|no pixels")


def test_trailing_padding_after_the_pixels_is_fine(tmp_path: Path) -> None:
    def edit(number: int, dataset: pydicom.Dataset) -> None:
        dataset.DataSetTrailingPadding = bytes(50)

    assert np.array_equal(hu_of(read_series(write_series(tmp_path, edit))), hounsfield())


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
    assert np.array_equal(hu_of(image), hounsfield())
    assert grid_differences(image, volume()) == []


@pytest.mark.parametrize(
    ("order", "own_slopes", "changes", "reason"),
    [
        ((0, 1, 2, 4, 5), (), {}, "5 mm between frame 3 and frame 4"),
        ((0, 1, 2, 2, 3), (), {}, "frame 3 and frame 4 lie at the same position"),
        (range(6), (1, 1, 2, 1, 1, 1), {}, "rescales each of its frames differently"),
        (range(6), (), {"PerFrameFunctionalGroupsSequence": []}, "6 frames and the positions of 0"),
        (range(6), (), {"SharedFunctionalGroupsSequence": []}, "does not say where they lie"),
        (range(6), (), {"SharedFunctionalGroupsSequence": [group()]}, "tells no position, orientation"),
        (range(6), (), {"NumberOfFrames": 7}, "cut short"),
        (range(6), (), {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour"),
    ],
)
def test_a_wrong_enhanced_file(
    tmp_path: Path, order: Sequence[int], own_slopes: Sequence[float], changes: dict[str, object], reason: str
) -> None:
    refused([write_enhanced(tmp_path / "e.dcm", order, own_slopes, **changes)], reason)
