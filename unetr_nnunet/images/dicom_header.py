"""The few attributes of a DICOM slice that say where it lies and how its pixels are stored, without its pixels.

DICOM PS3.3, sections C.7.6.2 (image plane), C.7.6.3 (image pixel) and C.11.1 (modality LUT):
https://dicom.nema.org/medical/dicom/current/output/html/part03.html
"""

import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

DICOM_ENDINGS = (".dcm", ".ima", ".dicom")
_MAGIC_OFFSET = 128
_KEYWORDS = [
    "SOPClassUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "Modality",
    "ImageType",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "PixelSpacing",
    "SliceThickness",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]
_GROUPS = ("PixelMeasures", "PlaneOrientation", "PlanePosition", "PixelValueTransformation")
_UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


@dataclass(frozen=True)
class SliceHeader:
    """What a DICOM file says of its image; 0, "" or () where it says nothing.

    Attributes:
        image_type: values of ImageType, such as ("ORIGINAL", "PRIMARY", "AXIAL").
        rows, columns, samples, frames: size of the pixel data; samples are values a pixel.
        bits: allocated for a value.
        is_signed: pixels are two's complement.
        rescale: slope and intercept from stored values to Hounsfield units; NaN where it is not a number.
        spacing_mm: distance of rows, of columns.
        orientation: direction cosines of a row, then of a column, in LPS.
        position_mm: centre of the first pixel in LPS.
        transfer_syntax: how the file is encoded.
        planes: a header for each frame of an Enhanced (multi-frame) file that says where they lie, with a path below
            the file's; else ().
        data_bytes: from the pixel data element to the end of the file, 0 if missing; the whole of a deflated
            file.
    """

    path: Path
    sop_class: str
    series_uid: str
    series_number: str
    modality: str
    image_type: tuple[str, ...]
    rows: int
    columns: int
    samples: int
    frames: int
    bits: int
    is_signed: bool
    photometric: str
    rescale: tuple[float, float]
    spacing_mm: tuple[float, ...]
    thickness_mm: float
    orientation: tuple[float, ...]
    position_mm: tuple[float, ...]
    transfer_syntax: str
    data_bytes: int
    planes: tuple["SliceHeader", ...] = ()

    @property
    def is_compressed(self) -> bool:
        """Whether the pixels are encoded, or the whole file is deflated."""
        return self.transfer_syntax not in _UNCOMPRESSED

    @property
    def pixel_bytes(self) -> int:
        """Size of the decoded pixels."""
        return self.rows * self.columns * self.samples * self.frames * self.bits // 8


def is_dicom(path: Path) -> bool:
    """Whether a file carries DICOM's mark, or at least its ending."""
    if path.suffix.lower() in DICOM_ENDINGS:
        return True
    with path.open("rb") as stream:
        stream.seek(_MAGIC_OFFSET)
        return stream.read(4) == b"DICM"


def is_blank(path: Path) -> bool:
    """Whether a file is empty or begins with zeros only, as a slice does that a full disk or a lost link cut short."""
    with path.open("rb") as stream:
        return not stream.read(_MAGIC_OFFSET + 4).strip(b"\0")


def read_header(path: Path) -> SliceHeader:
    """Read what `SliceHeader` holds.

    Args:
        path: of a DICOM file; its 128 bytes of preamble may be missing.

    Raises:
        ValueError: it is not a DICOM file, or damaged.
        OSError: it cannot be read; the error names it.
    """
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters is checked; the rest is common in real files
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(_KEYWORDS))
            is_deflated = dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
            header = _header(path, dataset, path.stat().st_size - (0 if is_deflated else stream.tell()))
            if header.frames > 1:
                header = replace(header, planes=_planes(header, dataset))
    except Exception as error:  # pydicom lets through whatever its parsers raise
        if isinstance(error, OSError) and error.errno is not None:  # the file system's, not pydicom's
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise _damaged(path, error) from error
    if not header.sop_class:
        raise _damaged(path, "it names no SOP class")
    return header


def _planes(header: SliceHeader, dataset: pydicom.Dataset) -> tuple[SliceHeader, ...]:
    """Return the headers of the frames, () where the file does not say where they lie.

    DICOM PS3.3, section C.7.6.16: an attribute of a frame is in the frame's own group, or in the shared one.
    """
    try:
        shared = dataset.SharedFunctionalGroupsSequence[0]
        planes = []
        for number, own in enumerate(dataset.PerFrameFunctionalGroupsSequence, start=1):
            merged = pydicom.Dataset()
            for name in _GROUPS:
                group = own.get(f"{name}Sequence") or shared.get(f"{name}Sequence") or [pydicom.Dataset()]
                merged.update(group[0])
            planes.append(replace(header, path=header.path / f"frame {number}", frames=1, **_plane(merged)))
    except Exception:  # whatever pydicom meets in it
        return ()
    return tuple(planes)


def _damaged(path: Path, reason: object) -> ValueError:
    problem = (str(reason) or repr(reason)).splitlines()[0]
    return ValueError(f"{path} is not a DICOM file, or damaged: {problem}; restore it, or move it out of its folder")


def _header(path: Path, dataset: pydicom.Dataset, data_bytes: int) -> SliceHeader:
    return SliceHeader(
        path=path,
        sop_class=str(dataset.file_meta.get("MediaStorageSOPClassUID", "")) or _text(dataset, "SOPClassUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        series_number=_text(dataset, "SeriesNumber"),
        modality=_text(dataset, "Modality"),
        image_type=_texts(dataset, "ImageType"),
        rows=_integer(dataset, "Rows", 0),
        columns=_integer(dataset, "Columns", 0),
        samples=_integer(dataset, "SamplesPerPixel", 1),
        frames=_integer(dataset, "NumberOfFrames", 1),
        bits=_integer(dataset, "BitsAllocated", 0),
        is_signed=_integer(dataset, "PixelRepresentation", 0) == 1,
        photometric=_text(dataset, "PhotometricInterpretation"),
        transfer_syntax=str(dataset.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)),
        data_bytes=data_bytes,
        **_plane(dataset),
    )


def _plane(dataset: pydicom.Dataset) -> dict[str, Any]:
    """Return the attributes that an Enhanced file gives for each frame."""
    thickness = _numbers(dataset, "SliceThickness", 1)
    return {
        "rescale": (_rescale(dataset, "RescaleSlope", 1.0), _rescale(dataset, "RescaleIntercept", 0.0)),
        "spacing_mm": _numbers(dataset, "PixelSpacing", 2),
        "thickness_mm": thickness[0] if thickness else 0.0,
        "orientation": _numbers(dataset, "ImageOrientationPatient", 6),
        "position_mm": _numbers(dataset, "ImagePositionPatient", 3),
    }


def _texts(dataset: pydicom.Dataset, keyword: str) -> tuple[str, ...]:
    value = dataset.get(keyword)
    if value is None:
        return ()
    values = [value] if isinstance(value, str | int) else value
    return tuple(str(value).strip() for value in values)


def _text(dataset: pydicom.Dataset, keyword: str) -> str:
    return "\\".join(_texts(dataset, keyword))


def _integer(dataset: pydicom.Dataset, keyword: str, absent: int) -> int:
    value = dataset.get(keyword)
    return absent if value is None else int(value)


def _numbers(dataset: pydicom.Dataset, keyword: str, count: int) -> tuple[float, ...]:
    """Return the values of an attribute, () where there are not ``count`` finite ones."""
    value = dataset.get(keyword)
    if value is None:
        return ()
    try:
        numbers = tuple(np.atleast_1d(np.asarray(value, np.float64)).tolist())
    except (TypeError, ValueError):
        return ()
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else ()


def _rescale(dataset: pydicom.Dataset, keyword: str, absent: float) -> float:
    if dataset.get(keyword) is None:
        return absent
    numbers = _numbers(dataset, keyword, 1)
    return numbers[0] if numbers else math.nan
