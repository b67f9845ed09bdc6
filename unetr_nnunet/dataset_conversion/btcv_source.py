"""Find BTCV's cases in a download, whatever level of it was given, and refuse its look-alikes by name.

Layout (Synapse syn3193805, Abdomen, ``RawData.zip``): ``RawData/Training/img/img0001.nii.gz``,
``RawData/Training/label/label0001.nii.gz``, ``RawData/Testing/img/img0061.nii.gz``; some archives nest RawData twice.
``Testing/label``, which the challenge keeps to itself, is taken where a user has it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from unetr_nnunet.dataset_conversion.btcv_splits import TEST_NUMBERS, TRAINING_NUMBERS
from unetr_nnunet.dataset_conversion.problems import Problem
from unetr_nnunet.dataset_conversion.source_files import SourceFile

WANTED = "RawData.zip of the Abdomen folder (RawData/Training/img, RawData/Training/label, RawData/Testing/img)"
_CASE_NAME = re.compile(r"(img|label)(\d{4})\.nii(\.gz)?", re.IGNORECASE)
_LABELLED_SETS = {"Training": TRAINING_NUMBERS, "Testing": TEST_NUMBERS}


@dataclass(frozen=True)
class SourceCase:
    """An image and, where there is one, its label map."""

    number: int
    image: SourceFile
    label: SourceFile | None


def refuse_other_data_sets(source: Path, names: Iterable[str]) -> None:
    """Raise where the source is, or contains, one of the downloads that lie beside the wanted one.

    Args:
        source: what the user gave.
        names: the files in it, as paths below the source.

    Raises:
        ValueError: with the file, why it cannot be used, and which folder is wanted.
    """
    own_name = PurePosixPath(source.resolve().stem if source.is_file() else source.resolve().name)
    for path in (own_name, *map(PurePosixPath, names)):
        parts = [part.lower() for part in path.parts]
        found = str(source) if path is own_name else f"{source}: {path}"
        if "averaged-training-images" in parts or re.fullmatch(r"det.*_avg\.nii(\.gz)?", parts[-1]):
            raise ValueError(
                f"{found} belongs to the cardiac data (averaged-training-images, DET*_avg), "
                f"which holds hearts and no abdominal organs: give {WANTED}"
            )
        if "regdata" in parts:
            raise ValueError(
                f"{found} belongs to RegData, copies of the same patients deformed onto each other, in which training "
                f"cases occur many times over: give {WANTED}"
            )


def find_cases(
    source: Path, files: Sequence[SourceFile]
) -> tuple[dict[int, SourceCase], dict[int, SourceCase], list[Problem]]:
    """Pair images and labels by their four digits.

    Returns:
        Training cases and test cases by number, and every problem of names and pairs. A problematic case is left out.

    Raises:
        ValueError: nothing in the source looks like BTCV, or it is one of the other data sets.
    """
    refuse_other_data_sets(source, [file.name for file in files])
    found: dict[tuple[str, str], dict[int, list[SourceFile]]] = {}
    problems: list[Problem] = []
    for file in files:
        place = _place(source, PurePosixPath(file.name))
        if place is None:
            continue
        match = _CASE_NAME.fullmatch(PurePosixPath(file.name).name)
        problem = _name_problem(file, place, match)
        if problem:
            problems.append(problem)
        elif match:
            found.setdefault(place, {}).setdefault(int(match.group(2)), []).append(file)
    if not found and not problems:
        raise ValueError(
            f"{source} holds no BTCV case ({len(files)} NIfTI files, none in Training/img or Training/label): "
            f"give {WANTED}"
        )
    cases: dict[str, dict[int, SourceCase]] = {}
    for part in _LABELLED_SETS:
        images, labels = found.get((part, "img"), {}), found.get((part, "label"), {})
        label_expected = part == "Training" or bool(labels)
        cases[part] = {}
        for number in sorted(set(images) | set(labels)):
            pair = _pair_problems(images.get(number, []), labels.get(number, []), label_expected, number)
            problems += pair
            if not pair:
                label = labels[number][0] if number in labels else None
                cases[part][number] = SourceCase(number, images[number][0], label)
    return cases["Training"], cases["Testing"], problems


def _place(source: Path, path: PurePosixPath) -> tuple[str, str] | None:
    """Return ("Training" or "Testing", "img" or "label") of a file, None where it lies elsewhere."""
    parents = [source.resolve().name, *path.parts[:-1]]
    kind = parents[-1].lower()
    if kind not in ("img", "label") or len(parents) < 2:
        return None
    part = parents[-2].capitalize()
    if part in _LABELLED_SETS:
        return part, kind
    return ("Training", kind) if len(path.parts) == 2 else None


def _name_problem(file: SourceFile, place: tuple[str, str], match: re.Match[str] | None) -> Problem | None:
    part, kind = place
    if match is None or match.group(1).lower() != kind:
        remedy = "remove the file, or give it back its name from the download"
        return Problem(file.name, f"is not named like the files of {part}/{kind} ({kind}0001.nii.gz)", remedy)
    if int(match.group(2)) not in _LABELLED_SETS[part]:
        ranges = "0001-0010 and 0021-0040" if part == "Training" else "0061-0080"
        return Problem(file.name, f"is an extra file: BTCV's {part} cases are {ranges}", "move it out of the source")
    if match.group(3) is None:
        return Problem(file.name, "is not compressed", "compress it with gzip (some browsers unpack downloads)")
    return None


def _pair_problems(
    images: Sequence[SourceFile], labels: Sequence[SourceFile], label_expected: bool, number: int
) -> list[Problem]:
    problems = [
        Problem(files[1].name, f"is a second file for {number:04d} besides {files[0].name}", "keep one of them")
        for files in (images, labels)
        if len(files) > 1
    ]
    if not images:
        problems.append(Problem(labels[0].name, f"has no image img{number:04d}.nii.gz", "extract the download again"))
    if not labels and label_expected:
        fact = f"has no label label{number:04d}.nii.gz"
        problems.append(Problem(images[0].name, fact, "extract the download again, or remove an extra image"))
    return problems
