"""Read the slices of one DICOM series as a volume, and refuse one that is not a volume.

GDCM, inside SimpleITK, decodes the pixels and applies each slice's rescale. It stacks whatever it is given, with a
warning at most; therefore the headers are compared first.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Literal

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from unetr_nnunet.images.dicom_header import SliceHeader, read_header
from unetr_nnunet.images.dicom_tree import in_slice_order
from unetr_nnunet.images.grid import ORTHONORMAL_WITHIN, SAID_BEYOND, SAID_BEYOND_MM, Grid
from unetr_nnunet.images.itk_formats import itk_reason

ORIENTATION_TOLERANCE = 1e-3
"""Largest difference of a direction cosine between slices."""
SPACING_TOLERANCE_MM = 1e-3
STEP_TOLERANCE = 0.1
STEP_TOLERANCE_MM = 0.11
"""Slice distances may differ from their median by the larger of the two; positions with one decimal do by 0.1 mm."""
SAME_POSITION_MM = 1e-3
FRAGMENT, FRAGMENTS_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
UNDEFINED_LENGTH = 0xFFFFFFFF
MOST_COMPRESSED = 10_000
"""No scan packs better than this; a header that promises more bytes is wrong."""


def read_series(files: Sequence[Path], headers: Sequence[SliceHeader] = ()) -> tuple[sitk.Image, Grid, list[str]]:
    """Read a series.

    Args:
        files: single-frame slices in any order, or one Enhanced (multi-frame) file.
        headers: those of the files that have been read already.

    Returns:
        The volume in Hounsfield units (the modality's rescale applied), slices along the normal of the slice plane;
        where it lies; and notes on that.

    Raises:
        ValueError: the files are damaged or no regular stack of slices; the reason names the files.
    """
    known = {header.path: header for header in headers}
    slices = [known.get(path) or read_header(path) for path in files]
    for header in slices:
        _refuse_wrong_pixels(header)
    first = slices[0]
    if len(slices) == 1 and first.frames > 1:
        frames = _frames(first)
        stack, grid, notes = _stacked(frames)
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(first.path))
        voxels = sitk.GetArrayFromImage(_decoded(reader, first.path, grid))
        return sitk.GetImageFromArray(voxels[[frames.index(frame) for frame in stack]]), grid, notes
    stack, grid, notes = _stacked(slices)
    return _read_slices(stack, grid), grid, notes


def _stacked(headers: Sequence[SliceHeader]) -> tuple[list[SliceHeader], Grid, list[str]]:
    """Return the slices in order, their grid, and notes on it; refuse what is no regular stack."""
    _refuse_mixture(headers)
    headers = in_slice_order(headers)
    first, folder = headers[0], headers[0].path.parent
    row, column = np.reshape(first.orientation, (2, 3))
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal) or 1.0
    positions_mm = np.array([header.position_mm for header in headers])
    step_mm = _slice_step_mm(headers, positions_mm @ normal)
    spacing_mm = np.array([first.spacing_mm[1], first.spacing_mm[0], step_mm])
    size = (first.columns, first.rows, len(headers))
    grid = Grid(size, spacing_mm, positions_mm[0], np.stack([row, column, normal], axis=1))
    return headers, grid, _tilt_note(positions_mm, grid, folder)


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


def _slice_step_mm(headers: Sequence[SliceHeader], along_mm: npt.NDArray[np.float64]) -> float:
    """Return the distance of neighbouring slices from their places along the normal; refuse missing and double ones."""
    first, folder = headers[0], headers[0].path.parent
    names = [header.path.name for header in headers]
    if len(headers) == 1:
        if first.thickness_mm <= 0:
            raise ValueError(f"{first.path} is a single slice without a thickness; a volume needs it")
        return first.thickness_mm
    steps_mm = np.diff(along_mm)
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
    return float(along_mm[-1] - along_mm[0]) / (len(headers) - 1)


def _tilt_note(positions_mm: npt.NDArray[np.float64], grid: Grid, folder: Path) -> list[str]:
    """Return a note where slices are shifted a little against each other, as by rounding; refuse a gantry tilt."""
    way_mm = positions_mm[-1] - positions_mm[0]
    shift_mm = float(np.linalg.norm(way_mm - grid.spacing_mm[2] * (grid.size[2] - 1) * grid.direction[:, 2]))
    tilt = shift_mm / max(float(np.linalg.norm(way_mm)), SAME_POSITION_MM) if grid.size[2] > 1 else 0.0
    if tilt > ORTHONORMAL_WITHIN:
        fact = f"slices are shifted against each other (gantry tilt of {math.degrees(math.asin(tilt)):.3g} degrees)"
        raise ValueError(f"{folder}: {fact}; resample it to an upright grid first")
    if tilt <= SAID_BEYOND or shift_mm <= SAID_BEYOND_MM:
        return []
    return [f"its slices are shifted against each other by {shift_mm:.2g} mm in all; taken as an upright stack"]


def _read_slices(headers: Sequence[SliceHeader], grid: Grid) -> sitk.Image:
    """Decode the slices; where they store or rescale differently, into a type that holds them all."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(header.path) for header in headers])
    if len({(header.rescale, header.is_signed, header.bits) for header in headers}) > 1:
        whole = all(number.is_integer() for header in headers for number in header.rescale)
        reader.SetOutputPixelType(sitk.sitkInt32 if whole else sitk.sitkFloat32)
    return _decoded(reader, headers[0].path.parent, grid)


def _decoded(reader: sitk.ImageSeriesReader | sitk.ImageFileReader, name: Path, grid: Grid) -> sitk.Image:
    """Return the volume; SimpleITK strings lines and single pixels into less than 3-D."""
    reader.SetImageIO("GDCMImageIO")
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise ValueError(f"{name} cannot be decoded: {itk_reason(error)}") from error
    if image.GetSize() == grid.size:
        return image
    if image.GetNumberOfPixels() != math.prod(grid.size):
        raise ValueError(f"{name} was decoded with size {image.GetSize()}, where its headers say {grid.size}")
    return sitk.GetImageFromArray(sitk.GetArrayFromImage(image).reshape(grid.size[::-1]))


def _frames(header: SliceHeader) -> list[SliceHeader]:
    """Return the headers of the frames of an Enhanced file, which holds all slices, in any order."""
    frames = list(header.planes)
    if not frames:
        raise ValueError(f"{header.path} holds {header.frames} frames and does not say where they lie")
    if len(frames) != header.frames:
        raise ValueError(f"{header.path} holds {header.frames} frames and the positions of {len(frames)}")
    if len({frame.rescale for frame in frames}) > 1:
        raise ValueError(f"{header.path} rescales each of its frames differently; convert it to single slices first")
    return frames
