"""OpenKBP (Babier et al., Medical Physics 48, 2021, doi 10.1002/mp.14845): head-and-neck planning CT with contours.

Data: ``git clone https://github.com/ababier/open-kbp`` (MIT licence, no registration). Layout:
``provided-data/{train,validation,test}-pats/pt_N/*.csv``, patients 1 to 200, 201 to 240, 241 to 340. A file lists
voxels by their index into a volume of 128 x 128 x 128 voxels in C order, whose axes run from anterior to posterior,
right to left, superior to inferior. ``ct.csv`` adds HU + 1024 and leaves out what is 0; ``voxel_dimensions.csv`` holds
the voxel's size along these axes in mm. A contour that is missing was not drawn, which does not mean that the organ is
not there. Dose and targets are not used.

The split ``tune-report`` is that of this project's study: of the patients with all five organs of the default, the
official validation cases serve choices, 30 of the official training cases reports.
"""

import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from unetr_nnunet.dataset_conversion.cases import SourceCase
from unetr_nnunet.dataset_conversion.data_set import DataSet
from unetr_nnunet.dataset_conversion.label_layers import LabelLayer
from unetr_nnunet.dataset_conversion.problems import Problem, ProblemsFoundError
from unetr_nnunet.dataset_conversion.source_cases import PARTS, Part, SourceCases, folder_names
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.dataset_conversion.splits import CV5, OWN, Split
from unetr_nnunet.dataset_conversion.voxel_lists import RESTORE, read_mask, read_spacing_mm, read_values
from unetr_nnunet.images.nifti import nifti_bytes

ORGANS: dict[str, str] = {
    "brainstem": "Brainstem",
    "spinal_cord": "SpinalCord",
    "right_parotid": "RightParotid",
    "left_parotid": "LeftParotid",
    "mandible": "Mandible",
    "esophagus": "Esophagus",
    "larynx": "Larynx",
}
"""File of each organ, in the order of the labels. Of two that claim a voxel, the later has it."""
DEFAULT_ORGANS = tuple(ORGANS)[:5]
CT, SPACING = "ct", "voxel_dimensions"
SHAPE = (128, 128, 128)
"""Voxels from anterior to posterior, right to left, superior to inferior."""
AIR_HU = -1024
HIGHEST_STORED = 2**15 - 1
MOST_OUTSIDE = 0.05
"""Share of a contour's voxels that may be missing from the CT, which leaves out what is 0; 0.6 % are known."""

_PARTS: dict[str, tuple[Part, range]] = {
    "train-pats": ("training", range(1, 201)),
    "validation-pats": ("validation", range(201, 241)),
    "test-pats": ("test", range(241, 341)),
}
_REPORT = (
    *(4, 13, 20, 25, 33, 37, 48, 59, 62, 70, 74, 83, 90, 93, 97, 104, 111, 114, 122, 132, 139, 148, 155, 166, 171),
    *(177, 182, 188, 193, 200),
)
_TUNE = (201, 202, 207, 209, 210, 213, 218, 219, 222, 224, 225, 226, 231, 232, 235, 236)
_TRAIN = (
    *(1, 2, 9, 12, 16, 17, 21, 22, 24, 30, 31, 34, 36, 40, 41, 47, 54, 57, 60, 61, 65, 66, 68, 71, 72, 77, 82, 84, 87),
    *(88, 91, 92, 95, 96, 99, 100, 101, 105, 109, 112, 113, 115, 119, 120, 124, 128, 133, 137, 140, 141, 144, 149),
    *(151, 157, 164, 167, 168, 169, 172, 173, 180, 181, 183, 185, 187, 189, 192, 196, 197),
)
WANTED = "the clone of https://github.com/ababier/open-kbp, with provided-data/train-pats/pt_1/ct.csv and so on"


def case_id(number: int) -> str:
    """Return the case identifier of a patient: ``case_id(1) == "HN_001"``."""
    return f"HN_{number:03d}"


@dataclass(frozen=True)
class Patient:
    """The files of a patient.

    Attributes:
        folder: name of the folder below the source.
        files: by their names without ``.csv``.
    """

    folder: str
    files: Mapping[str, SourceFile]


def find(organs: Sequence[str], source: Path, files: Sequence[SourceFile]) -> SourceCases:
    """Find the patients in whom all chosen organs are contoured.

    Raises:
        ValueError: there is no patient of OpenKBP.
    """
    by_number, problems = _patients(source, files)
    parts: dict[Part, dict[str, SourceCase]] = {part: {} for part in PARTS}
    counts: dict[Part, int] = dict.fromkeys(PARTS, 0)
    incomplete: dict[str, list[str]] = {}
    for number, (part, patient) in sorted(by_number.items()):
        counts[part] += 1
        lacking = [organ for organ in organs if ORGANS[organ] not in patient.files]
        absent = [f"{name}.csv" for name in (CT, SPACING) if name not in patient.files]
        if lacking:
            incomplete.setdefault(f"without contours of {', '.join(lacking)}", []).append(case_id(number))
        elif absent:
            problems.append(Problem(patient.folder, f"has no {' and no '.join(absent)}", RESTORE))
        else:
            parts[part][case_id(number)] = _case(patient, organs)
    notes = [f"left out, {reason}: {', '.join(names)}" for reason, names in incomplete.items()]
    unsuitable = {name: reason for reason, names in incomplete.items() for name in names}
    for folder, (part, numbers) in _PARTS.items():
        if counts[part] < len(numbers):
            notes.append(f"{folder} holds {counts[part]} of {len(numbers)} patients")
    identifiers = frozenset(map(case_id, by_number))
    return SourceCases(parts, identifiers, (), tuple(problems), unsuitable, counts, tuple(notes))


def _patients(source: Path, files: Sequence[SourceFile]) -> tuple[dict[int, tuple[Part, Patient]], list[Problem]]:
    """Return part and files of each patient by number, and what is wrong with folders."""
    folders: dict[PurePosixPath, dict[str, SourceFile]] = {}
    for file in files:
        path = PurePosixPath(file.name)
        if len(path.parts) > 1 and path.suffix == ".csv" and folder_names(source, path)[-2] in _PARTS:
            folders.setdefault(path.parent, {})[path.stem] = file
    patients: dict[int, tuple[Part, Patient]] = {}
    problems = []
    for folder, by_name in folders.items():
        match = re.fullmatch(r"pt_(\d+)", folder.name)
        part, numbers = _PARTS[folder_names(source, folder / CT)[-2]]
        number = int(match[1]) if match else 0
        if number not in numbers:
            fact = f"is no {part} patient of OpenKBP, which are pt_{numbers[0]} to pt_{numbers[-1]}"
            problems.append(Problem(str(folder), fact, "move the folder out of the source, or clone it again"))
        elif number in patients:
            fact = f"is patient {number} again, besides {patients[number][1].folder}"
            problems.append(Problem(str(folder), fact, "give one copy of the data set"))
        else:
            patients[number] = part, Patient(str(folder), by_name)
    if not folders:
        raise ValueError(f"{source} holds no patient of OpenKBP: give {WANTED}")
    return patients, problems


def _case(patient: Patient, organs: Sequence[str]) -> SourceCase:
    """Return a case whose image and label map are made when they are read."""
    files = [patient.files[name] for name in (CT, SPACING, *(ORGANS[organ] for organ in organs))]
    size_bytes = sum(file.size_bytes for file in files)
    stamp = zlib.crc32(repr([(file.name, file.size_bytes, file.stamp) for file in files]).encode())
    image, labels = (
        SourceFile(name, size_bytes, stamp, made=partial(_nifti, patient, organs, is_label=is_label))
        for name, is_label in ((files[0].name, False), (patient.folder, True))
    )
    return SourceCase(image, (LabelLayer(labels, {value: value for value in range(len(organs) + 1)}),))


def _nifti(patient: Patient, organs: Sequence[str], *, is_label: bool) -> bytes:
    hu, labels, affine = read_patient(patient, organs)
    return nifti_bytes(labels if is_label else hu, affine)


def read_patient(
    patient: Patient, organs: Sequence[str]
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Read a patient's files, cropped to the voxels that hold anything.

    Args:
        patient: has the files of CT, voxel size and organs.
        organs: get the labels 1, 2, ...

    Returns:
        Hounsfield units (Z, Y, X) and labels (Z, Y, X), from inferior to superior, anterior to posterior, right to
        left; and the affine to RAS in mm, whose origin is the first voxel of the volume before cropping.

    Raises:
        ProblemsFoundError: with the problems of all files.
    """
    problems: list[Problem] = []

    def read(reader: Callable[..., Any], name: str, *options: Any) -> Any:
        try:
            return reader(patient.files[name], *options)
        except ProblemsFoundError as error:
            problems.extend(error.problems)

    spacing_mm = read(read_spacing_mm, SPACING)
    image = read(read_values, CT, SHAPE, 0, HIGHEST_STORED)
    contours = [read(read_mask, ORGANS[organ], SHAPE) for organ in organs]
    problems = problems or _contour_problems(patient, organs, image[0], contours)
    if problems:
        raise ProblemsFoundError(problems)
    hu, labels = np.full(SHAPE, AIR_HU, np.int16), np.zeros(SHAPE, np.uint8)
    hu.flat[image[0]] = np.rint(image[1]) + AIR_HU
    for value, indices in enumerate(contours, start=1):
        labels.flat[indices] = value
    places = np.unravel_index(np.concatenate([image[0], *contours]), SHAPE)
    first, last = (np.array([end(axis) for axis in places]) for end in (np.min, np.max))
    box = tuple(slice(start, stop + 1) for start, stop in zip(first, last, strict=True))
    back_mm, left_mm, down_mm = spacing_mm
    affine = np.diag([-left_mm, -back_mm, down_mm, 1.0])
    affine[:3, 3] = -left_mm * first[1], -back_mm * first[0], -down_mm * last[2]
    return _upwards(hu[box]), _upwards(labels[box]), affine


def _contour_problems(
    patient: Patient, organs: Sequence[str], image: npt.NDArray[np.int64], contours: Sequence[npt.NDArray[np.int64]]
) -> list[Problem]:
    """Return what shows that a list was cut off, or that two files were exchanged."""
    problems = []
    for organ, indices in zip(organs, contours, strict=True):
        outside = 1 - np.isin(indices, image).mean()
        if outside > MOST_OUTSIDE:
            fact = f"{outside:.0%} of its voxels are not in {CT}.csv: one of the two is damaged"
            problems.append(Problem(patient.files[ORGANS[organ]].name, fact, RESTORE))
    columns = {  # right to left
        organ: float(np.unravel_index(indices, SHAPE)[1].mean())
        for organ, indices in zip(organs, contours, strict=True)
    }
    if columns.get("right_parotid", 0) > columns.get("left_parotid", math.inf):
        fact = f"{ORGANS['right_parotid']}.csv lies to the left of {ORGANS['left_parotid']}.csv"
        problems.append(Problem(patient.folder, fact, RESTORE))
    return problems


def _upwards(volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Turn (anterior to posterior, right to left, superior to inferior) to (Z, Y, X), from inferior to superior."""
    return np.ascontiguousarray(volume.transpose(2, 0, 1)[::-1])


def with_organs(names: Sequence[str]) -> DataSet:
    """Return the data set with some of its organs, labelled 1, 2, ... in the order of `ORGANS`.

    Raises:
        ValueError: it does not draw one of them.
    """
    known = {_bare(organ): organ for organ in ORGANS}
    unknown = [name for name in names if _bare(name) not in known]
    if unknown:
        raise ValueError(f"--organs {' '.join(unknown)}: OpenKBP draws {', '.join(ORGANS)}; name some of these")
    chosen = {known[_bare(name)] for name in names}
    organs = tuple(organ for organ in ORGANS if organ in chosen)
    return replace(DATA_SET, find=partial(find, organs), labels=dict(enumerate(organs, start=1)))


def _bare(name: str) -> str:
    """Return an organ's name without what the files' names, such as ``SpinalCord``, do not have."""
    return re.sub(r"[\s_-]", "", name).lower()


def _ids(*numbers: int) -> tuple[str, ...]:
    return tuple(map(case_id, numbers))


DATA_SET = DataSet(
    command="openkbp",
    title="OpenKBP",
    description="Planning CT of patients with head-and-neck cancer, with the contours drawn for radiotherapy",
    reference="Babier et al., Medical Physics 48, 2021, doi 10.1002/mp.14845; https://github.com/ababier/open-kbp",
    licence="MIT (https://github.com/ababier/open-kbp)",
    find=partial(find, DEFAULT_ORGANS),
    splits=(
        OWN,
        CV5,
        Split(
            "tune-report",
            "69 official training patients train; fold 0 is validated on the 16 official validation patients, to make "
            "choices, fold 1 on 30 further training patients, to report; the official test patients are held out",
            training=_ids(*sorted((*_TRAIN, *_TUNE, *_REPORT))),
            folds=((_ids(*_TRAIN), _ids(*_TUNE)), (_ids(*_TRAIN), _ids(*_REPORT))),
        ),
    ),
    dataset_id=55,
    name="OpenKBP",
    summary="OpenKBP, head and neck, no registration: brainstem, spinal cord, parotids, mandible, esophagus, larynx",
    wanted="the clone of https://github.com/ababier/open-kbp, or a zip of it",
    example="open-kbp",
    details="Get it with: git clone https://github.com/ababier/open-kbp (MIT licence; cite Babier et al., Medical "
    "Physics 48, 2021, doi 10.1002/mp.14845). A contour that is missing was not drawn, so only patients in whom all "
    "chosen organs are contoured are converted; the others are listed. Images are cropped to the patient. Where two "
    "contours claim a voxel, the organ with the higher number wins.",
    labels=dict(enumerate(DEFAULT_ORGANS, start=1)),
    table_files=tuple(f"{name}.csv" for name in (CT, SPACING, *ORGANS.values())),
    organ_choice=tuple(ORGANS),
    trainer_tokens=("NoLRFlip",),
    with_organs=with_organs,
)
