"""Write a mask as a DICOM segmentation object that refers to the series it was made from.

The format is that of DICOM PS3.3 A.51 (Segmentation IOD), encoded by highdicom (Bridge et al., J Digit Imaging 2022).
Codes are SNOMED CT concepts from PS3.16: CID 7150 for categories, CID 244 for laterality, `organs` for the organs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as sitk
from pydicom.uid import generate_uid

from unetr_nnunet import __version__
from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.organs import find_organ, label_colours

if TYPE_CHECKING:
    import highdicom

NAME = "unetr_nnunet"
SERIES_NUMBER_OFFSET = 1000
"""The series is numbered after its source: 3 becomes 1003."""

_OF_A_SERIES = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_EMPTY_IF_MISSING = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)
_LONGEST_LABEL = 64  # characters of DICOM's LO


def write_dicom_seg(
    mask: sitk.Image,
    series_files: Sequence[Path],
    labels: Mapping[str, int],
    path: Path,
    regions: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """Write a binary DICOM-SEG of the labels that occur in a mask, one segment each, in the order of their integers.

    Labels that do not occur get no segment: viewers would list them, and a segment without a frame is something that
    many cannot read. As DICOM allows no file without a frame either, an empty mask is written as one empty frame of
    the first label. Labels named as an organ of `organs` get its code, colour and laterality, others the code of
    tissue; all keep their name as segment label.

    Of a series that was stripped of the identifiers of its study, series or frame of reference, the file gets others,
    always the same ones for the same files; its frames still refer to the slices.

    Args:
        mask: label image in the geometry of the series.
        series_files: the files it was made from, in any order: slices, or one multi-frame file.
        labels: integer of each label by name, without background.
        path: ``.dcm`` file to write, whole or not at all.
        regions: all integers of each label by name, where it has more than its own; their segments may overlap.

    Raises:
        ValueError: there is no label, or a file has no identifier to refer to.
        OSError: a file cannot be read or written.
    """
    import highdicom  # takes over a second to import, and few runs need it

    if not labels:
        raise ValueError(f"{path.name}: there are no labels to write; the model's dataset.json must name some")
    axes = np.reshape(mask.GetDirection(), (3, 3))
    sources = _read_headers(series_files, axes[:, :2].T.ravel().tolist())
    array = sitk.GetArrayViewFromImage(mask)
    segments, array = _segments(array, labels, regions or {})
    affine = np.eye(4)
    affine[:3, :3] = (axes * mask.GetSpacing())[:, ::-1]  # array axes: z, y, x
    affine[:3, 3] = mask.GetOrigin()
    segmentation = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=highdicom.Volume(
            array,
            affine,
            "PATIENT",
            sources[0].FrameOfReferenceUID,
            channels={"SegmentNumber": list(range(1, len(segments) + 1))} if array.ndim == 4 else None,
        ),
        segmentation_type="BINARY",
        segment_descriptions=_descriptions(segments, labels),
        series_instance_uid=highdicom.UID(),
        series_number=int(sources[0].get("SeriesNumber") or 0) + SERIES_NUMBER_OFFSET,
        series_description=f"{NAME} segmentation",
        content_label="SEGMENTATION",
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=__version__,
        device_serial_number="unknown",
        specific_character_set="ISO_IR 192",  # UTF-8: any label name
    )
    with atomic_path(path) as temporary:
        segmentation.save_as(temporary)


def _read_headers(files: Sequence[Path], orientation: list[float]) -> list[pydicom.FileDataset]:
    """Return the headers with all that highdicom copies from them, put in where anonymisation took it out.

    Args:
        files: of the series.
        orientation: the mask's; highdicom takes slices whose own is rounded for those of another plane.
    """
    headers = [pydicom.dcmread(file, stop_before_pixels=True, force=True) for file in files]
    for file, header in zip(files, headers, strict=True):
        for keyword in ("SOPClassUID", "SOPInstanceUID"):
            if not header.get(keyword):
                setattr(header, keyword, header.file_meta.get(f"MediaStorage{keyword}", ""))
            if not header[keyword].value:
                raise ValueError(f"{file} has no {keyword}, which a DICOM-SEG must refer to; predict without one")
        for keyword in _EMPTY_IF_MISSING:
            if keyword not in header:
                setattr(header, keyword, "")
        if "ImageOrientationPatient" in header:
            header.ImageOrientationPatient = orientation
    for keyword in _OF_A_SERIES:
        uid = headers[0].get(keyword) or generate_uid(entropy_srcs=[keyword, headers[0].SOPInstanceUID])
        for header in headers:
            setattr(header, keyword, uid)
    return headers


def _segments(
    array: npt.NDArray[np.uint8 | np.uint16], labels: Mapping[str, int], regions: Mapping[str, Sequence[int]]
) -> tuple[list[str], npt.NDArray[Any]]:
    """Return the names of the labels that occur, and their segments in that order.

    They are the mask (Z, Y, X) renumbered to 1, 2, ..., or where some overlap one mask each, (Z, Y, X, K) uint8.
    """
    occurs = np.zeros(np.iinfo(array.dtype).max + 1, bool)
    for labels_of_slice in array:
        occurs[np.bincount(labels_of_slice.ravel()).nonzero()] = True
    integers = {name: list(regions.get(name, (label,))) for name, label in labels.items()}
    names = [name for name in sorted(labels, key=lambda name: labels[name]) if occurs[integers[name]].any()]
    if not names:
        return [min(labels, key=lambda name: labels[name])], np.zeros_like(array[:1])
    drawn = [integer for name in names for integer in integers[name]]
    if len(set(drawn)) < len(drawn):
        return names, np.stack([np.isin(array, integers[name]) for name in names], axis=-1).astype(np.uint8)
    numbers = np.zeros(len(occurs), array.dtype)
    for number, name in enumerate(names, start=1):
        numbers[integers[name]] = number
    return names, numbers[array]


def _descriptions(names: Sequence[str], labels: Mapping[str, int]) -> list[highdicom.seg.SegmentDescription]:
    import highdicom
    from pydicom.sr.codedict import codes

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=NAME, family=codes.cid7162.ArtificialIntelligence, version=__version__
    )
    colours = label_colours(labels)
    descriptions = []
    for number, name in enumerate(names, start=1):
        organ = find_organ(name)
        tissue = codes.SCT.Tissue
        description = highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:_LONGEST_LABEL].replace("\\", "/"),
            segmented_property_category=codes.SCT.AnatomicalStructure if organ else tissue,
            segmented_property_type=(
                highdicom.sr.CodedConcept(organ.snomed_code, "SCT", organ.snomed_meaning) if organ else tissue
            ),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            display_color=highdicom.color.CIELabColor.from_rgb(*colours[labels[name]]),
        )
        if organ and organ.laterality:
            side = codes.SCT.Right if organ.laterality == "right" else codes.SCT.Left
            concept = highdicom.sr.CodedConcept.from_code(side)
            description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [concept]
        descriptions.append(description)
    return descriptions
