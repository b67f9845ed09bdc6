"""Files of images and label maps by name: which there are, what their cases are called, which belong together."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

VOLUME_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
FIRST_CHANNEL = "_0000"
"""What nnU-Net puts behind a case's name in the name of its (first) image."""
_BTCV_NAME = re.compile(r"(?:img|label|btcv_)(\d{4})", re.IGNORECASE)


@dataclass(frozen=True)
class Pairing:
    """Which prediction belongs to which label file.

    Attributes:
        pairs: (prediction, label) by case; a case is named after its prediction.
        ambiguous: reason by case, where more than one file could be meant.
        without_prediction: stems of label files that no prediction belongs to.
        without_label: stems of predictions that no label file belongs to.
    """

    pairs: dict[str, tuple[Path, Path]]
    ambiguous: dict[str, str]
    without_prediction: list[str]
    without_label: list[str]


def in_utf8(text: str) -> str:
    """Return a text, such as a path, with what is not UTF-8 escaped, so that any file and screen can take it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def volume_ending(path: Path) -> str:
    """Return the file name's ending as it is written, "" where it is not that of a volume."""
    ending = next((ending for ending in VOLUME_ENDINGS if path.name.lower().endswith(ending)), "")
    return path.name[len(path.name) - len(ending) :]


def stem(path: Path) -> str:
    """Return a file's name without its ending, in UTF-8 (`in_utf8`)."""
    return in_utf8(path.name.removesuffix(volume_ending(path) or path.suffix))


def volume_files(folder: Path) -> list[Path]:
    """Return what is named as a volume in a folder, sorted; hidden files and folders are left out.

    A link to nothing is among them: reading it tells.
    """
    paths = (path for path in folder.iterdir() if not path.name.startswith(".") and volume_ending(path))
    return sorted(path for path in paths if not path.is_dir())


def refuse_unreadable(path: Path) -> None:
    """Refuse a path that no reader should be given: SimpleITK ends the whole process, a pipe waits for ever.

    Raises:
        ValueError: the path is not UTF-8, or no file.
    """
    if (name := in_utf8(str(path))) != str(path):
        raise ValueError(f"{name} has a name that is not UTF-8: rename the file, or the folder it lies in")
    if not path.is_file():
        raise ValueError(f"{path} is no file, or a link to none: put the file in its place or remove the name")


def hash_file(path: Path) -> str:
    """Return a file's SHA-256, as ``sha256sum`` prints it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(pair: tuple[Path, Path]) -> dict[str, str]:
    """Return the SHA-256 of a (prediction, label) pair of files, so that others in their place are noticed.

    Raises:
        OSError: a file cannot be read.
    """
    return {side: hash_file(path) for side, path in zip(("prediction", "label"), pair, strict=True)}


def find_label_files(folder: Path) -> dict[str, list[Path]]:
    """Return the label map files of a folder by stem.

    Raises:
        ValueError: there is no such folder, or no label map in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in volume_files(folder):
        by_stem[stem(path)].append(path)
    if not by_stem:
        raise ValueError(f"{folder} holds no label map ({', '.join(VOLUME_ENDINGS)})")
    return dict(by_stem)


def pair_cases(predictions: Path, labels: Path) -> Pairing:
    """Join two folders by file stem; BTCV's own names (img0061, label0061, BTCV_0061) also by their number.

    Where two files on one side could be meant, the case is ambiguous and none of them is taken.

    Raises:
        ValueError: a folder is missing or empty, both are the same, or no case is in both.
    """
    if predictions.is_dir() and labels.is_dir() and predictions.samefile(labels):
        raise ValueError(f"predictions and labels are the same folder, {predictions}")
    predicted, labelled = find_label_files(predictions), find_label_files(labels)
    candidates = {name: (predicted.pop(name), labelled.pop(name)) for name in sorted(predicted.keys() & labelled)}
    by_number, labels_by_number = _by_number(predicted), _by_number(labelled)
    for number in sorted(by_number.keys() & labels_by_number):
        stems, label_stems = by_number[number], labels_by_number[number]
        case = stems[0] if len(stems) == 1 else f"*{number}"
        candidates[case] = (_pop_all(predicted, stems), _pop_all(labelled, label_stems))
    if not candidates:
        raise ValueError(
            f"no case is in both folders: {predictions} holds {_some(predicted)}, {labels} holds {_some(labelled)}; "
            "give both files of a case the same name (only BTCV's own, such as label0061, are joined by their number)"
        )
    ambiguous = {
        case: "more than one file could be meant: " + ", ".join(in_utf8(path.name) for path in (*left, *right))
        for case, (left, right) in candidates.items()
        if len(left) > 1 or len(right) > 1
    }
    pairs = {case: (left[0], right[0]) for case, (left, right) in candidates.items() if case not in ambiguous}
    return Pairing(dict(sorted(pairs.items())), ambiguous, sorted(labelled), sorted(predicted))


def pair_names(cases: Sequence[str], stems: Iterable[str]) -> dict[str, str]:
    """Return which file belongs to each case: named like it, with ``_0000`` behind, or of BTCV with its number.

    Args:
        cases: names of the cases.
        stems: of the files; each belongs to one case at most.
    """
    left = dict.fromkeys(stems)
    pairs: dict[str, str] = {}
    for suffix in ("", FIRST_CHANNEL):
        for case in cases:
            if case not in pairs and case + suffix in left:
                pairs[case] = case + suffix
                del left[case + suffix]
    by_number = _by_number(left)
    for number, names in _by_number(case for case in cases if case not in pairs).items():
        if len(names) == 1 and len(by_number.get(number, ())) == 1:
            pairs[names[0]] = by_number[number][0]
    return pairs


def _by_number(stems: Iterable[str]) -> dict[str, list[str]]:
    """Group BTCV's own names by their number; others are left out."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in stems:
        if match := _BTCV_NAME.fullmatch(name):
            groups[match[1]].append(name)
    return groups


def _pop_all(files: dict[str, list[Path]], stems: list[str]) -> list[Path]:
    return [path for name in stems for path in files.pop(name)]


def _some(files: dict[str, list[Path]]) -> str:
    return ", ".join(sorted(files)[:3]) + (", ..." if len(files) > 3 else "")
