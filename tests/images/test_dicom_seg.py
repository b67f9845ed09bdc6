from collections.abc import Iterator
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import (
    EnhancedCTImageStorage,
    SegmentationStorage,
    generate_uid,
)

from tests.images.scans import SPACING_MM as SPACING
from tests.images.scans import read_series, slice_dataset
from unetr_nnunet import __version__
from unetr_nnunet.images.dicom_seg import write_dicom_seg
from unetr_nnunet.organs import ORGANS

BTCV = {organ.name: organ.id for organ in ORGANS}
ORIGIN = (-20.5, 31.25, -400.0)


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    transform = sitk.Euler3DTransform()
    transform.SetRotation(*angles)
    return np.reshape(transform.GetMatrix(), (3, 3))


def write_series(
    folder: Path, angles: tuple[float, float, float] = (0, 0, 0), *, slices: int = 5, **attributes: object
) -> tuple[list[Path], sitk.Image]:
    """Write a CT series of 9 x 11 pixels with pydicom, and return its files in order and an empty mask on its grid."""
    folder.mkdir()
    axes = rotation(angles)
    shared = {
        "FrameOfReferenceUID": generate_uid(),
        "StudyInstanceUID": generate_uid(),
        "ImageOrientationPatient": [f"{value:.9f}" for value in (*axes[:, 0], *axes[:, 1])],
        "PatientName": "Doe^Jane",
        "PatientID": "17",
        **attributes,
    }
    files, uid = [], generate_uid()
    for number in range(slices):
        dataset = slice_dataset(number, np.full((9, 11), number), uid)
        for keyword, value in shared.items():
            if value is not None:
                setattr(dataset, keyword, value)
            else:
                delattr(dataset, keyword)
        dataset.ImagePositionPatient = [f"{value:.9f}" for value in ORIGIN + axes[:, 2] * SPACING[2] * number]
        files.append(folder / f"{number}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    mask = sitk.Image(11, 9, slices, sitk.sitkUInt8)
    mask.SetSpacing(SPACING)
    mask.SetOrigin(ORIGIN)
    mask.SetDirection(axes.ravel().tolist())
    return files, mask


def voxels(mask: sitk.Image, label: int) -> set[tuple[float, ...]]:
    """Return where the voxels of a label lie (x, y, z), LPS, in tenths of a millimetre."""
    found = np.argwhere(sitk.GetArrayFromImage(mask) == label)[:, ::-1].tolist()
    return {tuple(np.round(mask.TransformIndexToPhysicalPoint(index), 1) + 0.0) for index in found}


def segments(path: Path) -> Iterator[tuple[pydicom.Dataset, set[tuple[float, ...]]]]:
    """Yield each segment's description and where its pixels lie, from the attributes of the DICOM standard alone."""
    file = pydicom.dcmread(path)
    shared = file.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    row_mm, column_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    frames = file.pixel_array.reshape(-1, file.Rows, file.Columns)
    for description in file.SegmentSequence:
        places: set[tuple[float, ...]] = set()
        for frame, groups in zip(frames, file.PerFrameFunctionalGroupsSequence, strict=True):
            holder = groups if "SegmentIdentificationSequence" in groups else shared
            if holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber == description.SegmentNumber:
                corner = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
                for row, column in np.argwhere(frame):
                    place = corner + cosines[0] * column * column_mm + cosines[1] * row * row_mm
                    places.add(tuple(np.round(place, 1) + 0.0))
        yield description, places


def random_mask(mask: sitk.Image, labels: list[int]) -> sitk.Image:
    array = np.random.default_rng(0).choice(labels, mask.GetSize()[::-1])
    filled = sitk.GetImageFromArray(array.astype(np.uint8))
    filled.CopyInformation(mask)
    return filled


@pytest.mark.parametrize("angles", [(0, 0, 0), (np.pi / 2, 0, 0), (0, 0, np.pi), (0.2, -0.3, 2.0)])
def test_segments_lie_where_the_mask_does(tmp_path: Path, angles: tuple[float, float, float]) -> None:
    files, grid = write_series(tmp_path / "series", angles)
    mask = random_mask(grid, [0, 2, 3, 8])
    write_dicom_seg(mask, files, BTCV, tmp_path / "out" / "seg.dcm")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["seg.dcm"]
    read = {description.SegmentLabel: places for description, places in segments(tmp_path / "out" / "seg.dcm")}
    assert list(read) == ["right_kidney", "left_kidney", "aorta"]
    for name, places in read.items():
        assert places == voxels(mask, BTCV[name])


def test_regions_that_overlap_are_whole_segments(tmp_path: Path) -> None:
    files, grid = write_series(tmp_path / "series", (0.2, -0.3, 2.0))
    mask = random_mask(grid, [0, 1, 2, 3])
    regions = {"whole": (1, 2), "core": (2,), "other": (3,), "absent": (4,)}
    write_dicom_seg(mask, files, {"whole": 1, "core": 2, "other": 3, "absent": 4}, tmp_path / "seg.dcm", regions)
    read = {description.SegmentLabel: places for description, places in segments(tmp_path / "seg.dcm")}
    one, two, three = (voxels(mask, label) for label in (1, 2, 3))
    assert read == {"whole": one | two, "core": two, "other": three}
    write_dicom_seg(mask, files, {"all": 1}, tmp_path / "all.dcm", {"all": (1, 2, 3)})
    [(_, places)] = segments(tmp_path / "all.dcm")
    assert places == one | two | three


def test_the_order_of_files_and_slices_does_not_matter(tmp_path: Path) -> None:
    files, grid = write_series(tmp_path / "series")
    mask = random_mask(grid, [0, 6])
    flipped = sitk.Flip(mask, (False, False, True))  # as a reader stores it that goes from head to foot
    write_dicom_seg(flipped, files[::-1], BTCV, tmp_path / "seg.dcm")
    [(_, places)] = segments(tmp_path / "seg.dcm")
    assert places == voxels(mask, 6)


def test_each_frame_refers_to_its_slice(tmp_path: Path) -> None:
    files, grid = write_series(tmp_path / "series")
    mask = random_mask(grid, [0, 6, 1])
    write_dicom_seg(mask, files[::-1], BTCV, tmp_path / "seg.dcm")
    headers = map(pydicom.dcmread, files)
    positions = {header.SOPInstanceUID: [float(value) for value in header.ImagePositionPatient] for header in headers}
    file = pydicom.dcmread(tmp_path / "seg.dcm")
    assert len(file.PerFrameFunctionalGroupsSequence) == 2 * len(files)
    for groups in file.PerFrameFunctionalGroupsSequence:
        [source] = groups.DerivationImageSequence[0].SourceImageSequence
        position = [float(value) for value in groups.PlanePositionSequence[0].ImagePositionPatient]
        assert np.allclose(position, positions[source.ReferencedSOPInstanceUID], atol=1e-4)


def test_codes_colours_and_origin_are_written(tmp_path: Path) -> None:
    files, grid = write_series(tmp_path / "series")
    labels = {"liver": 7, "kidney_left": 2, "tumeur bénigne": 3}
    write_dicom_seg(random_mask(grid, [0, 2, 3, 7]), files, labels, tmp_path / "seg.dcm")
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert seg.SOPClassUID == SegmentationStorage
    assert seg.segmentation_type.value == "BINARY"
    kidney, other, liver = seg.SegmentSequence
    assert (kidney.segment_label, kidney.segmented_property_type.meaning) == ("kidney_left", "Kidney")
    [side] = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
    assert (side.CodeValue, side.CodingSchemeDesignator, side.CodeMeaning) == ("7771000", "SCT", "Left")
    assert liver.segmented_property_type == pydicom.sr.codedict.codes.SCT.Liver
    assert liver.segmented_property_category == pydicom.sr.codedict.codes.SCT.AnatomicalStructure
    assert (other.segment_label, other.segmented_property_type.meaning) == ("tumeur bénigne", "Tissue")
    colour = highdicom.color.CIELabColor.from_dicom_value(liver.RecommendedDisplayCIELabValue).to_rgb(clip=True)
    assert np.allclose(colour, ORGANS[5].colour, atol=2)
    [algorithm] = liver.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("unetr_nnunet", __version__)
    assert liver.SegmentAlgorithmType == "AUTOMATIC"
    source = pydicom.dcmread(files[0])
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientName", "PatientID"):
        assert seg[keyword].value == source[keyword].value
    assert seg.SeriesInstanceUID != source.SeriesInstanceUID
    assert (seg.Modality, seg.SeriesNumber) == ("SEG", 1003)


def test_an_empty_mask_is_one_empty_frame(tmp_path: Path) -> None:
    files, mask = write_series(tmp_path / "series")
    write_dicom_seg(mask, files, {"spleen": 2, "liver": 1}, tmp_path / "seg.dcm")
    file = pydicom.dcmread(tmp_path / "seg.dcm")
    assert [description.SegmentLabel for description in file.SegmentSequence] == ["liver"]
    assert file.NumberOfFrames == 1
    assert not file.pixel_array.any()


def test_a_single_slice_is_written(tmp_path: Path) -> None:
    files, grid = write_series(tmp_path / "series", slices=1)
    mask = random_mask(grid, [0, 6])
    write_dicom_seg(mask, files, BTCV, tmp_path / "seg.dcm")
    [(_, places)] = segments(tmp_path / "seg.dcm")
    assert places == voxels(mask, 6)


def test_a_multi_frame_file_is_referred_to_frame_by_frame(tmp_path: Path) -> None:
    files, grid = write_series(tmp_path / "series")
    slices = [pydicom.dcmread(file) for file in files[::-1]]  # the first frame is the last slice
    enhanced = slices[0]
    plane = {"PlaneOrientationSequence": ["ImageOrientationPatient"]}
    measures = {"PixelMeasuresSequence": ["PixelSpacing", "SliceThickness"]}
    enhanced.SharedFunctionalGroupsSequence = [groups(slices[0], plane | measures)]
    position = {"PlanePositionSequence": ["ImagePositionPatient"]}
    enhanced.PerFrameFunctionalGroupsSequence = [groups(one, position) for one in slices]
    enhanced.PixelData = b"".join(one.PixelData for one in slices)
    enhanced.NumberOfFrames = len(slices)
    enhanced.SOPClassUID = enhanced.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    for keyword in ("ImageOrientationPatient", "PixelSpacing", "SliceThickness", "ImagePositionPatient"):
        delattr(enhanced, keyword)
    enhanced.save_as(tmp_path / "enhanced.dcm")
    mask = random_mask(grid, [0, 6])
    write_dicom_seg(mask, [tmp_path / "enhanced.dcm"], BTCV, tmp_path / "seg.dcm")
    [(_, places)] = segments(tmp_path / "seg.dcm")
    assert places == voxels(mask, 6)
    for frame in pydicom.dcmread(tmp_path / "seg.dcm").PerFrameFunctionalGroupsSequence:
        [source] = frame.DerivationImageSequence[0].SourceImageSequence
        number = int(source.ReferencedFrameNumber)
        there = enhanced.PerFrameFunctionalGroupsSequence[number - 1].PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(frame.PlanePositionSequence[0].ImagePositionPatient, there, atol=1e-4)


def groups(source: pydicom.Dataset, contents: dict[str, list[str]]) -> pydicom.Dataset:
    """Return a functional groups item with attributes of a slice in sequences."""
    item = pydicom.Dataset()
    for sequence, keywords in contents.items():
        inner = pydicom.Dataset()
        for keyword in keywords:
            setattr(inner, keyword, source[keyword].value)
        setattr(item, sequence, [inner])
    return item


def test_an_anonymised_series_in_another_alphabet_will_do(tmp_path: Path) -> None:
    patient = {"PatientID": None, "SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg"}
    files, grid = write_series(tmp_path / "series", **patient)
    write_dicom_seg(random_mask(grid, [0, 6]), files, {"ελιά": 6}, tmp_path / "seg.dcm")
    file = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (file.PatientName, file.PatientID) == ("Müller^Jörg", "")
    assert file.SegmentSequence[0].SegmentLabel == "ελιά"


def test_orientations_that_differ_in_the_last_digit_are_one(tmp_path: Path) -> None:
    files, grid = write_series(tmp_path / "series", (0.2, -0.3, 2.0))
    last = pydicom.dcmread(files[-1])
    last.ImageOrientationPatient = [f"{float(value) + 1e-7:.9f}" for value in last.ImageOrientationPatient]
    last.save_as(files[-1])
    mask = random_mask(grid, [0, 6])
    write_dicom_seg(mask, files, BTCV, tmp_path / "seg.dcm")
    [(_, places)] = segments(tmp_path / "seg.dcm")
    assert places == voxels(mask, 6)


def test_a_series_whose_orientation_is_rounded_is_referred_to_all_the_same(tmp_path: Path) -> None:
    orientation = [round(float(value), 2) for value in rotation((0.2, -0.3, 2.0))[:, :2].T.ravel()]
    files, _ = write_series(tmp_path / "series", (0.2, -0.3, 2.0), ImageOrientationPatient=orientation)
    mask = random_mask(read_series(files), [0, 6])
    write_dicom_seg(mask, files, BTCV, tmp_path / "seg.dcm")
    for groups in pydicom.dcmread(tmp_path / "seg.dcm").PerFrameFunctionalGroupsSequence:
        assert len(groups.DerivationImageSequence[0].SourceImageSequence) == 1
    [(_, places)] = segments(tmp_path / "seg.dcm")
    assert places == voxels(mask, 6)


def test_identifiers_that_were_stripped_are_replaced_by_the_same_ones_each_time(tmp_path: Path) -> None:
    stripped = {"StudyInstanceUID": "", "SeriesInstanceUID": None, "FrameOfReferenceUID": "", "Modality": None}
    files, grid = write_series(tmp_path / "series", **stripped)
    mask = random_mask(grid, [0, 6])
    for name in ("one.dcm", "two.dcm"):
        write_dicom_seg(mask, files, BTCV, tmp_path / name)
    one, two = (pydicom.dcmread(tmp_path / name) for name in ("one.dcm", "two.dcm"))
    uids = [one[keyword].value for keyword in ("StudyInstanceUID", "FrameOfReferenceUID")]
    assert len(set(uids)) == 2
    assert all(uid.is_valid for uid in uids)
    assert uids == [two[keyword].value for keyword in ("StudyInstanceUID", "FrameOfReferenceUID")]
    assert one.SOPInstanceUID != two.SOPInstanceUID


def test_what_cannot_be_referred_to_is_refused(tmp_path: Path) -> None:
    files, mask = write_series(tmp_path / "series")
    with pytest.raises(ValueError, match=r"seg.dcm: there are no labels to write"):
        write_dicom_seg(mask, files, {}, tmp_path / "seg.dcm")
    header = pydicom.dcmread(files[2])
    del header.SOPInstanceUID, header.file_meta.MediaStorageSOPInstanceUID
    header.save_as(files[2])
    with pytest.raises(ValueError, match=r"2.dcm has no SOPInstanceUID, which a DICOM-SEG must refer to"):
        write_dicom_seg(mask, files, BTCV, tmp_path / "seg.dcm")
    assert not (tmp_path / "seg.dcm").exists()


def test_a_real_series_is_segmented_in_place(tmp_path: Path, real_ct: Path) -> None:
    slab = real_ct / "upper_abdomen_slab"
    reader = sitk.ImageSeriesReader()
    files = reader.GetGDCMSeriesFileNames(str(slab / "dicom"))
    mask = sitk.ReadImage(str(slab / "label.nii.gz"), sitk.sitkUInt8)
    write_dicom_seg(mask, [Path(file) for file in files], BTCV, tmp_path / "seg.dcm")
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(mask)
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert [BTCV[description.segment_label] for description in seg.SegmentSequence] == list(statistics.GetLabels())
    volume = seg.get_volume(combine_segments=True)  # (Z, Y, X), on the SEG's own grid
    read = sitk.GetImageFromArray(volume.array)
    affine = volume.affine
    read.SetOrigin(affine[:3, 3].tolist())
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    read.SetSpacing(spacing[::-1].tolist())
    read.SetDirection((affine[:3, :3] / spacing)[:, ::-1].ravel().tolist())
    there = sitk.Resample(read, mask, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    expected = np.zeros(256, np.uint8)
    expected[list(statistics.GetLabels())] = range(1, len(statistics.GetLabels()) + 1)
    assert np.array_equal(sitk.GetArrayFromImage(there), expected[sitk.GetArrayFromImage(mask)])
