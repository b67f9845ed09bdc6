"""Find the cases of a download: pair images with labels, and say what is missing."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from unetr_nnunet.dataset_conversion.cases import SourceCase
from unetr_nnunet.dataset_conversion.label_layers import LabelLayer, organ_values
from unetr_nnunet.dataset_conversion.problems import Problem
from unetr_nnunet.dataset_conversion.source_files import SourceFile

Part = Literal["training", "validation", "test"]
PARTS: tuple[Part, ...] = ("training", "validation", "test")


@dataclass(frozen=True)
class Place:
    """The meaning of a file, from its path.

    Attributes:
        part: the part of the data set's own split that it belongs to.
        is_label: a label map, not an image.
        case: case identifier.
    """

    part: Part
    is_label: bool
    case: str


@dataclass(frozen=True)
class SourceCases:
    """The cases of a source.

    Attributes:
        parts: the usable cases by part of the data set's own split and by identifier.
        identifiers: every case of which there is a file, usable or not.
        problems: what is wrong with the source as a whole; it is never converted.
        case_problems: what is wrong with single cases, which are in no part.
        unsuitable: cases that are in no part because they lack something that was asked for, and what.
        counts: how many cases of each part there are files of.
        notes: further lines for the user.
    """

    parts: dict[Part, dict[str, SourceCase]]
    identifiers: frozenset[str]
    problems: tuple[Problem, ...] = ()
    case_problems: tuple[Problem, ...] = ()
    unsuitable: Mapping[str, str] = field(default_factory=dict)
    counts: dict[Part, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def split_folders(validation: str) -> dict[str, tuple[Part, bool]]:
    """Return what lies in ``imagesTr``, ``labelsTr`` and so on: the part, and whether it is labels.

    Args:
        validation: ending of the names of the validation folders, in lower case.
    """
    endings: tuple[tuple[str, Part], ...] = (("tr", "training"), (validation, "validation"), ("ts", "test"))
    kinds = (("images", False), ("labels", True))
    return {kind + ending: (part, is_label) for ending, part in endings for kind, is_label in kinds}


def pair_files(
    files: Sequence[SourceFile],
    place_of: Callable[[PurePosixPath], Place | Problem | None],
    values: Mapping[int, int],
    label_expected: Collection[Part],
) -> SourceCases:
    """Put images and labels together.

    Args:
        files: the files of the source.
        place_of: what a file is, or what is wrong with its name; None for what does not belong to the data set.
        values: organ id of each label value.
        label_expected: the parts in which every image has a label; in the others it may.
    """
    files_of: dict[str, dict[bool, list[tuple[Place, SourceFile]]]] = {}
    problems: list[Problem] = []
    for file in files:
        place = place_of(PurePosixPath(file.name))
        if isinstance(place, Problem):
            problems.append(place)
        elif place is not None:
            files_of.setdefault(place.case, {False: [], True: []})[place.is_label].append((place, file))
    parts: dict[Part, dict[str, SourceCase]] = {part: {} for part in PARTS}
    counts: dict[Part, int] = dict.fromkeys(PARTS, 0)
    for name, kinds in sorted(files_of.items()):
        counts[(kinds[False] or kinds[True])[0][0].part] += 1
        of_case = _pair_problems(name, kinds[False], kinds[True], label_expected)
        problems += of_case
        if not of_case:
            (place, image), labels = kinds[False][0], kinds[True]
            parts[place.part][name] = SourceCase(image, tuple(LabelLayer(file, values) for _, file in labels))
    return SourceCases(parts, frozenset(files_of), case_problems=tuple(problems), counts=counts)


def _pair_problems(
    name: str,
    images: Sequence[tuple[Place, SourceFile]],
    labels: Sequence[tuple[Place, SourceFile]],
    label_expected: Collection[Part],
) -> list[Problem]:
    for kind, files in (("image", images), ("label", labels)):
        if len(files) > 1:
            fact = f"is a second {kind} of {name} besides {files[0][1].name}"
            return [Problem(files[1][1].name, fact, "keep one of them")]
    for _, file in (*images, *labels):
        if not file.name.lower().endswith(".gz"):
            fact = "is not compressed"
            return [Problem(file.name, fact, "compress it with gzip (some browsers unpack downloads)")]
    if not images:
        return [Problem(labels[0][1].name, "has no image", "complete the download, or extract it again")]
    place, image = images[0]
    if not labels and place.part in label_expected:
        return [Problem(image.name, "has no label file", "complete the download, or extract it again")]
    if labels and labels[0][0].part != place.part:
        fact = f"belongs to the {labels[0][0].part} cases, but its image {image.name} to the {place.part} cases"
        return [Problem(labels[0][1].name, fact, "extract the download again")]
    return []


def read_dataset_json(files: Sequence[SourceFile]) -> tuple[SourceFile, dict[str, Any]] | None:
    """Return the data set's own ``dataset.json``, None if missing.

    Raises:
        ValueError: it is damaged.
    """
    tables = [file for file in files if PurePosixPath(file.name).name == "dataset.json"]
    if not tables:
        return None
    outermost = min(tables, key=lambda file: file.name.count("/"))
    try:
        content = json.loads(outermost.read_text())
        if not isinstance(content, dict):
            raise ValueError("not a table")
    except ValueError as error:
        raise ValueError(f"{outermost.name} is damaged ({error}): download or extract it again") from error
    return outermost, content


def label_table_problems(file: SourceFile, content: Mapping[str, Any], names: Sequence[str]) -> list[Problem]:
    """Check that a ``dataset.json`` gives each organ the number that it has in the data set's documentation.

    Args:
        file: the ``dataset.json``.
        content: its content; ``labels`` maps numbers (as text) to names.
        names: the documented names of the labels 1, 2, ...
    """
    remedy = "use the original download, with its own labels"
    labels = content.get("labels")
    try:
        declared = {int(value): str(name) for value, name in dict(labels or {}).items()}
    except (TypeError, ValueError):
        return [Problem(file.name, f"its labels {labels} are not numbers with names", remedy)]
    listed = [declared.get(value, "nothing") for value in range(1, max(declared, default=0) + 1)]
    expected = organ_values(names)
    wrong = [
        f"{value} is {name}, not {names[value - 1] if value <= len(names) else 'any label'}"
        for (value, organ), name in zip(list(organ_values(listed).items())[1:], listed, strict=True)
        if organ != expected.get(value, 0)
    ]
    return [Problem(file.name, f"has another label table: {'; '.join(wrong)}", remedy)] if wrong else []


def folder_names(source: Path, path: PurePosixPath) -> list[str]:
    """Return the folders of a file from the source downwards, in lower case, the source's own name first."""
    return [part.lower() for part in (source.resolve().name, *path.parts[:-1])]


def no_case(source: Path, files: Sequence[SourceFile], title: str, wanted: str) -> ValueError:
    """Return the error for a source in which no case was found; it names archives that lie there unopened."""
    archives = sorted(path.name for path in source.glob("*.zip")) if source.is_dir() else []
    hint = f"; it holds {', '.join(archives[:3])}, which may be given instead" if archives else ""
    return ValueError(f"{source} holds no {title} case ({len(files)} NIfTI files{hint}): give {wanted}")


def missing_cases(expected: Sequence[str], present: Collection[str], listed_in: str) -> tuple[Problem, ...]:
    """Return one problem that names all missing cases of a download; none if it is complete."""
    missing = [name for name in expected if name not in present]
    if not missing:
        return ()
    some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    fact = f"lists {len(expected)} cases, of which {len(missing)} are missing ({some})"
    return (Problem(listed_in, fact, "complete the download"),)
