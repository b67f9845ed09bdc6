"""Cases of a download: which a split uses, and a check of every file of a case."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from unetr_nnunet.dataset_conversion import image_checks
from unetr_nnunet.dataset_conversion.image_checks import Volume
from unetr_nnunet.dataset_conversion.label_layers import LabelLayer
from unetr_nnunet.dataset_conversion.problems import Problem, ProblemsFoundError
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.images.compressed import DamagedFileError


@dataclass(frozen=True)
class SourceCase:
    """An image of a download and its label files; none for a case without labels."""

    image: SourceFile
    labels: tuple[LabelLayer, ...] = ()


@dataclass(frozen=True)
class Selection:
    """The cases that a split takes from a source, by case identifier.

    Attributes:
        split_name: how the split is called.
        training: labelled cases for ``imagesTr``.
        test: cases for ``imagesTs``.
        folds: content of ``splits_final.json``; empty where nnU-Net draws the folds.
        left_out: identifiers of the source's cases that the split does not use.
        problems: what is wrong with the source as a whole; it is never converted.
        case_problems: what is wrong with single cases, which are in neither ``training`` nor ``test``.
        notes: further lines for the user.
    """

    split_name: str
    training: dict[str, SourceCase]
    test: dict[str, SourceCase]
    folds: tuple[dict[str, list[str]], ...] = ()
    left_out: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    case_problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    def cases(self) -> dict[str, SourceCase]:
        """Return training and test cases together."""
        return self.training | self.test

    def without(self, bad: Collection[str]) -> "Selection":
        """Return the selection without some cases, and without folds that have lost all their cases of one kind."""
        kept = self.training.keys() - set(bad)
        folds = [
            {part: [name for name in names if name in kept] for part, names in fold.items()} for fold in self.folds
        ]
        return replace(
            self,
            training={name: case for name, case in self.training.items() if name not in bad},
            test={name: case for name, case in self.test.items() if name not in bad},
            folds=tuple(fold for fold in folds if all(fold.values())),
        )


@dataclass(frozen=True)
class CheckedCase:
    """The result of reading a whole case.

    Attributes:
        problems: why it cannot be converted.
        range_problems: that its values do not look like Hounsfield units.
        image: the image; None if there are problems.
        rewrite_reasons: why its label map cannot be taken over byte by byte.
        absent: names of the organs that do not occur; empty without labels.
        notes: what was mended to understand its geometry.
    """

    problems: tuple[Problem, ...]
    range_problems: tuple[Problem, ...] = ()
    image: Volume | None = None
    rewrite_reasons: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def check_case(
    case: SourceCase, drawn: Mapping[int, str] | None = None, assumed_orientation: str | None = None
) -> CheckedCase:
    """Read every file of a case to its end and compare the files with each other.

    Args:
        case: the case.
        drawn: names of the organs that the data set draws by their ids; those that do not occur are reported as absent.
        assumed_orientation: of files that do not tell their own; None refuses them.
    """
    image, problems = _read(image_checks.read_image, case.image, assumed_orientation)
    range_problems, notes = [], []
    if image is not None:
        notes += _notes(case.image, image)
        problems += image_checks.finite_problems(case.image, image)
        range_problems = [] if problems else image_checks.hounsfield_problems(case.image, image)
    reasons: list[str] = []
    present: set[int] = set()
    label_problems: list[Problem] = []
    for layer in case.labels:
        label, layer_problems = _check_layer(layer, image, assumed_orientation)
        label_problems += layer_problems
        if label is not None and image is not None:
            reasons += image_checks.rewrite_reasons(label, image)
            notes += _notes(layer.file, label)
            present |= {layer.values[value] for value in label.values if value in layer.values}
    problems += _summed_up([problem for problem in label_problems if problem not in problems])
    if problems or image is None:
        return CheckedCase(tuple(problems), tuple(range_problems))
    expected = drawn or {} if case.labels else {}
    absent = tuple(name for organ, name in expected.items() if organ not in present)
    return CheckedCase((), tuple(range_problems), image, tuple(dict.fromkeys(reasons)), absent, tuple(notes))


def _notes(file: SourceFile, volume: Volume) -> list[str]:
    return [f"{file.name}: {note}" for note in volume.geometry()[1]]


def check_channel(file: SourceFile, image: Volume | None, assumed_orientation: str | None = None) -> list[Problem]:
    """Check a further channel of a case, and compare it with the first, where that could be read."""
    channel, problems = _read(image_checks.read_image, file, assumed_orientation)
    if channel is not None:
        problems += image_checks.finite_problems(file, channel)
        if image is not None:
            problems += image_checks.pair_problems(file, channel, image)
    return problems


def _check_layer(
    layer: LabelLayer, image: Volume | None, assumed_orientation: str | None
) -> tuple[Volume | None, list[Problem]]:
    label, problems = _read(image_checks.read_label, layer.file, assumed_orientation)
    if label is not None:
        problems += image_checks.label_value_problems(layer.file, label, highest=layer.highest)
        if image is not None:
            problems += image_checks.pair_problems(layer.file, label, image)
    return label, problems


def _summed_up(problems: list[Problem]) -> list[Problem]:
    """Return the problems; where several label files of a case have one, only the first, with their number."""
    files = {problem.file for problem in problems}
    if len(files) < 2:
        return problems
    first = problems[0]
    more = f"{first.fact} ({len(files) - 1} more label files of this case have problems)"
    return [Problem(first.file, more, first.remedy)]


def _read(
    reader: Callable[[SourceFile], Volume], file: SourceFile, assumed_orientation: str | None
) -> tuple[Volume | None, list[Problem]]:
    """Return the volume, None where the file is damaged or its geometry unusable, and the problems."""
    try:
        volume = replace(reader(file), assumed_orientation=assumed_orientation)
    except DamagedFileError as error:
        return None, [Problem(file.name, str(error), image_checks.AGAIN)]
    except ProblemsFoundError as error:  # of the files that it is made from
        return None, list(error.problems)
    problems = image_checks.geometry_problems(file, volume)
    return (None if problems else volume), problems
