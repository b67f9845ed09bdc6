"""Read the slices of one DICOM series as a volume, and refuse a series that is none.

GDCM, inside SimpleITK, decodes the pixels and applies each slice's rescale. It stacks whatever it is given, with a
warning at most; therefore the headers are compared first.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as sitk
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from unetr_nnunet.images.dicom_header import SliceHeader, frame_header, read_dataset, read_header
from unetr_nnunet.images.dicom_tree import in_slice_order
from unetr_nnunet.images.itk_volume import itk_reason

ORIENTATION_TOLERANCE = 1e-3
"""Largest difference of a direction cosine between slices."""
SPACING_TOLERANCE_MM = 1e-3
TILT_TOLERANCE_DEGREES = 0.5
"""Positions written with one decimal tilt a stack of thin slices by less."""
STEP_TOLERANCE = 0.1
STEP_TOLERANCE_MM = 0.11
"""Slice distances may differ from their median by the larger of the two; positions with one decimal do by 0.1 mm."""
SAME_POSITION_MM = 1e-3
FRAGMENT, FRAGMENTS_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
UNDEFINED_LENGTH = 0xFFFFFFFF
MOST_COMPRESSED = 10_000
"""No scan packs better than this; a header that promises more bytes is wrong."""


def read_series(files: Sequence[Path]) -> sitk.Image:
    """Read a series.

    Args:
        files: single-frame slices in any order, or one Enhanced (multi-frame) file.

    Returns:
        The volume in Hounsfield units (the modality's rescale applied), slices along the normal of the slice plane.

    Raises:
        ValueError: the files are damaged or no regular stack of slices; the reason names the files.
    """
    headers = [read_header(path) for path in files]
    for header in headers:
        _refuse_wrong_pixels(header)
    if len(headers) == 1 and headers[0].frames > 1:
        return _read_frames(headers[0])
    headers, step_mm = _stacked(headers)
    image = _read_slices(headers)
    if len(headers) == 1 or 1 in (headers[0].rows, headers[0].columns):
        # SimpleITK takes no notice of a single slice's thickness, and strings lines and pixels into less than 3-D
        voxels = sitk.GetArrayFromImage(image).reshape(len(headers), headers[0].rows, headers[0].columns)
        image = _placed(voxels, headers[0], step_mm)
    _refuse_other_grid(image, headers[0], len(headers), step_mm)
    return image


def _stacked(headers: Sequence[SliceHeader]) -> tuple[list[SliceHeader], float]:
    """Return the slices in order and their distance; refuse what is no regular stack."""
    _refuse_mixture(headers)
    _refuse_wrong_plane(headers[0])
    headers = in_slice_order(headers)
    return headers, _slice_step_mm(headers)


def _refuse_wrong_pixels(header: SliceHeader) -> None:
    path = header.path
    if header.rows < 1 or header.columns < 1 or header.frames < 1 or header.data_bytes <= 0:
        raise ValueError(
            f"{path} is cut short or no image, it holds no pixels; restore it, or move it out of its folder"
        )
    if header.samples != 1 or header.photometric not in ("MONOCHROME2", ""):
        kind = header.photometric or f"{header.samples} values a pixel"
        raise ValueError(f"{path} is no CT slice but a colour or inverted image ({kind}); remove it from the series")
    if header.bits not in (8, 16, 32):
        raise ValueError(f"{path} stores {header.bits} bits a pixel; 8, 16 or 32 are supported")
    slope, intercept = header.rescale
    if not (math.isfinite(slope) and math.isfinite(intercept) and slope != 0):
        raise ValueError(f"{path} has no usable rescale: slope {slope:g}, intercept {intercept:g}")
    if header.data_bytes * (MOST_COMPRESSED if header.is_compressed else 1) < header.pixel_bytes:
        fact = f"{header.data_bytes} bytes of pixels where its header asks for {header.pixel_bytes}"
        raise ValueError(f"{path} is cut short: {fact}")
    if header.transfer_syntax != DeflatedExplicitVRLittleEndian:
        _refuse_broken_pixel_element(header)


def _refuse_broken_pixel_element(header: SliceHeader) -> None:
    """Refuse a file whose pixel data element has another length than its image, or fragments without an end.

    GDCM makes something of the former, and takes seconds and gigabytes to refuse the latter.
    DICOM PS3.5, sections 7.1 and A.4.
    """
    size = header.path.stat().st_size
    is_implicit = header.transfer_syntax == ImplicitVRLittleEndian
    with header.path.open("rb") as stream:
        stream.seek(size - header.data_bytes)
        element = stream.read(8 if is_implicit else 12)  # tag, kind of value (if explicit), length
        byte_order: Literal["little", "big"] = "big" if header.transfer_syntax == ExplicitVRBigEndian else "little"
        length = int.from_bytes(element[-4:], byte_order)
        is_sound = is_implicit or element[4:8] in (b"OB\0\0", b"OW\0\0")
        if not header.is_compressed:
            is_sound &= header.pixel_bytes <= length <= size - stream.tell()
        elif is_sound and length == UNDEFINED_LENGTH:
            is_sound = _has_whole_fragments(stream, size)
        else:
            is_sound = False
    if not is_sound:
        raise ValueError(f"{header.path} is cut short or damaged: its pixel data have a wrong length or no end")


def _has_whole_fragments(stream: IO[bytes], size: int) -> bool:
    """Whether encoded pixels, from the stream's place on, are whole fragments up to the mark of their end."""
    while stream.tell() < size:
        item = stream.read(8)
        if item[:4] == FRAGMENTS_END:
            return True
        after = stream.tell() + int.from_bytes(item[4:], "little")
        if item[:4] != FRAGMENT or after > size:
            return False
        stream.seek(after)
    return False


def _refuse_mixture(headers: Sequence[SliceHeader]) -> None:
    """Refuse slices that do not share one series, orientation and in-plane grid."""
    first = headers[0]
    for header in headers:
        if not (header.position_mm and header.orientation and len(header.spacing_mm) == 2):
            raise ValueError(f"{header.path} tells no position, orientation or pixel spacing; a volume needs all three")
        where = f"{first.path} and {header.path.name}"
        if header.frames > 1:
            raise ValueError(f"{header.path} holds {header.frames} frames among other slices; predict it alone")
        if header.series_uid != first.series_uid:
            raise ValueError(f"{where} belong to different series; keep each series in a folder of its own")
        if (header.rows, header.columns) != (first.rows, first.columns):
            sizes = f"{first.columns} x {first.rows} and {header.columns} x {header.rows}"
            raise ValueError(f"{where} differ in size, {sizes} pixels; keep slices of one size")
        if not np.allclose(header.spacing_mm, first.spacing_mm, rtol=0, atol=SPACING_TOLERANCE_MM):
            raise ValueError(f"{where} differ in pixel spacing, {first.spacing_mm} and {header.spacing_mm} mm")
        if not np.allclose(header.orientation, first.orientation, rtol=0, atol=ORIENTATION_TOLERANCE):
            raise ValueError(f"{where} differ in orientation; keep slices of one orientation")


def _refuse_wrong_plane(header: SliceHeader) -> None:
    if min(header.spacing_mm) <= 0:
        raise ValueError(f"{header.path} has pixel spacing {header.spacing_mm} mm; it must be above 0")
    axes = np.reshape(header.orientation, (2, 3))
    if np.abs(axes @ axes.T - np.eye(2)).max() > ORIENTATION_TOLERANCE:
        fact = f"row and column are no unit vectors at right angles: {header.orientation}"
        raise ValueError(f"{header.path}: {fact}; resample it to such a grid first")


def _slice_step_mm(headers: Sequence[SliceHeader]) -> float:
    """Return the distance of neighbouring slices; refuse missing, double and shifted ones (gantry tilt)."""
    first, folder = headers[0], headers[0].path.parent
    names = [header.path.name for header in headers]
    if len(headers) == 1:
        if first.thickness_mm <= 0:
            raise ValueError(f"{first.path} is a single slice without a thickness; a volume needs it")
        return first.thickness_mm
    positions_mm = np.array([header.position_mm for header in headers])
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    steps_mm = np.diff(positions_mm @ normal)
    double = np.flatnonzero(steps_mm < SAME_POSITION_MM)
    if double.size:
        pair = f"{names[double[0]]} and {names[double[0] + 1]}"
        raise ValueError(f"{folder}: {pair} lie at the same position ({double.size} such pairs); keep one of each")
    typical_mm = float(np.median(steps_mm))
    wrong = np.flatnonzero(np.abs(steps_mm - typical_mm) > max(STEP_TOLERANCE * typical_mm, STEP_TOLERANCE_MM))
    if wrong.size:
        gap = f"{steps_mm[wrong[0]]:.4g} mm between {names[wrong[0]]} and {names[wrong[0] + 1]}"
        raise ValueError(
            f"{folder}: slices are missing or unevenly spaced: {gap} where {typical_mm:.4g} mm are usual "
            f"({wrong.size} such gaps); add the missing slices"
        )
    way_mm = positions_mm[-1] - positions_mm[0]
    along_mm = float(way_mm @ normal)
    tilt = math.degrees(math.acos(min(1.0, along_mm / float(np.linalg.norm(way_mm)))))
    if tilt > TILT_TOLERANCE_DEGREES:
        fact = f"slices are shifted against each other (gantry tilt of {tilt:.3g} degrees)"
        raise ValueError(f"{folder}: {fact}; resample it to an upright grid first")
    return along_mm / (len(headers) - 1)


def _read_slices(headers: Sequence[SliceHeader]) -> sitk.Image:
    """Decode the slices; where they store or rescale differently, into a type that holds them all."""
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(header.path) for header in headers])
    if len({(header.rescale, header.is_signed, header.bits) for header in headers}) > 1:
        whole = all(number.is_integer() for header in headers for number in header.rescale)
        reader.SetOutputPixelType(sitk.sitkInt32 if whole else sitk.sitkFloat32)
    return _decoded(reader, headers[0].path.parent)


def _decoded(reader: sitk.ImageSeriesReader | sitk.ImageFileReader, name: Path) -> sitk.Image:
    try:
        return reader.Execute()
    except RuntimeError as error:
        raise ValueError(f"{name} cannot be decoded: {itk_reason(error)}") from error


def _refuse_other_grid(image: sitk.Image, first: SliceHeader, slices: int, step_mm: float) -> None:
    """Make sure that SimpleITK understood the geometry as the headers say it."""
    checks: dict[str, tuple[Sequence[float], Sequence[float]]] = {
        "size": ((first.columns, first.rows, slices), image.GetSize()),
        "spacing": ((first.spacing_mm[1], first.spacing_mm[0], step_mm), image.GetSpacing()),
        "origin": (first.position_mm, image.GetOrigin()),
        "direction": (_direction(first), image.GetDirection()),
    }
    for what, (header, read) in checks.items():
        if len(header) != len(read) or not np.allclose(header, read, rtol=1e-4, atol=2e-3):
            raise ValueError(f"{first.path.parent}: {what} is {tuple(header)} by its headers but was read as {read}")


def _direction(header: SliceHeader) -> list[float]:
    """Return the direction cosines of x, y, z as columns, row by row: SimpleITK's order."""
    row, column = np.reshape(header.orientation, (2, 3))
    return np.stack([row, column, np.cross(row, column)], axis=1).ravel().tolist()


def _placed(voxels: npt.NDArray[Any], first: SliceHeader, step_mm: float) -> sitk.Image:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((first.spacing_mm[1], first.spacing_mm[0], step_mm))
    image.SetOrigin(first.position_mm)
    image.SetDirection(_direction(first))
    return image


def _read_frames(header: SliceHeader) -> sitk.Image:
    """Read an Enhanced file, which holds all slices, each with its own position, in any order."""
    frames = _frame_headers(header)
    stack, step_mm = _stacked(frames)
    if len({frame.rescale for frame in frames}) > 1:
        raise ValueError(f"{header.path} rescales each of its frames differently; convert it to single slices first")
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(header.path))
    voxels = sitk.GetArrayFromImage(_decoded(reader, header.path))
    if voxels.shape != (header.frames, header.rows, header.columns):
        raise ValueError(f"{header.path} was read with shape {voxels.shape}, its header says otherwise")
    return _placed(voxels[[frames.index(frame) for frame in stack]], stack[0], step_mm)


def _frame_headers(header: SliceHeader) -> list[SliceHeader]:
    """Return a header for each frame of an Enhanced file, named after its number.

    DICOM PS3.3, section C.7.6.16: an attribute of a frame stands in the frame's own group, or in the shared one.
    """
    dataset, _ = read_dataset(header.path)
    try:
        shared = dataset.SharedFunctionalGroupsSequence[0]
        own_groups = list(dataset.PerFrameFunctionalGroupsSequence)
        frames = []
        for number, own in enumerate(own_groups, start=1):
            merged = pydicom.Dataset()
            for name in ("PixelMeasures", "PlaneOrientation", "PlanePosition", "PixelValueTransformation"):
                group = own.get(f"{name}Sequence") or shared.get(f"{name}Sequence") or [pydicom.Dataset()]
                merged.update(group[0])
            frames.append(frame_header(header, number, merged))
    except Exception as error:  # pydicom lets through whatever its parsers meet
        raise ValueError(f"{header.path} holds {header.frames} frames and does not say where they lie") from error
    if len(frames) != header.frames:
        raise ValueError(f"{header.path} holds {header.frames} frames and the positions of {len(frames)}")
    return frames
