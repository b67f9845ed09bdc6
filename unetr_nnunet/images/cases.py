"""Find the images to predict or show: volume files, nnU-Net's channel files and DICOM series.

Only names and headers are read here. A case that cannot be read is found all the same, so that it is reported as a
failure of its own; `unetr_nnunet.images.read.read_case` says what is wrong with it.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unetr_nnunet.images.dicom_header import SliceHeader
from unetr_nnunet.images.dicom_tree import Series, find_series
from unetr_nnunet.images.files import VOLUME_ENDINGS, in_utf8, stem, volume_ending, volume_files

ACCEPTED = f"volume files ({', '.join(VOLUME_ENDINGS)}) and DICOM series"


@dataclass(frozen=True)
class Case:
    """One image to predict.

    Attributes:
        name: of the outputs, unique in the run: file name without ending, or name of the series' folder.
        channels: files of each channel: one path for a volume file, several (in slice order) for DICOM; none where
            the channel is missing, which `read_case` refuses.
        is_dicom: the files are slices of a DICOM series.
        headers: of the DICOM files, so that they are read once.
    """

    name: str
    channels: tuple[tuple[Path, ...], ...]
    is_dicom: bool
    headers: tuple[SliceHeader, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class _Candidate:
    """A case that looks for its name: the first of ``names`` that no other case has."""

    names: tuple[str, ...]
    channels: tuple[tuple[Path, ...], ...]
    is_dicom: bool
    headers: tuple[SliceHeader, ...] = ()


def find_cases(source: Path, channels: int, modality: str | None = None) -> tuple[list[Case], list[str]]:
    """Find what can be predicted.

    A folder gives its volume files (sub-folders are not searched for them) and every DICOM series in it and below it.
    With one channel any file name will do, and nnU-Net's ``case_0000.nii.gz`` is named ``case`` unless another file
    claims that name. With several, nnU-Net's names join the files of a case. A DICOM series is named after its
    folder, with the series number where a folder holds several.

    Args:
        source: a volume file, a slice of a DICOM series, or a folder.
        channels: input channels of the model.
        modality: DICOM modality that the model was trained on, such as "CT"; series of others are skipped. None
            takes every series of images.

    Returns:
        The cases, sorted by name, and a note on each file that was skipped or renamed.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: nothing in it can be predicted.
    """
    if source.is_file():
        candidates, notes = _of_file(source, channels, modality)
    elif source.is_dir():
        candidates, notes = _of_folder(source, channels, modality)
    else:
        raise FileNotFoundError(f"{source} does not exist; name a file or a folder of {ACCEPTED}")
    if not candidates:
        details = f" ({'; '.join(notes[:3])})" if notes else ""
        raise ValueError(f"{source} holds no image{details}; {ACCEPTED} are accepted")
    names = _distinct_names([candidate.names for candidate in candidates])
    cases = []
    for name, candidate in zip(names, candidates, strict=True):
        cases.append(Case(name, candidate.channels, candidate.is_dicom, candidate.headers))
        if name != candidate.names[0] and not candidate.is_dicom:
            path = next(path for paths in candidate.channels for path in paths)
            notes.append(f"{path}: another case is named {candidate.names[0]}, so that this one is named {name}")
    return sorted(cases, key=lambda case: case.name), notes


def _of_file(path: Path, channels: int, modality: str | None) -> tuple[list[_Candidate], list[str]]:
    """Return the one case that a file belongs to, named as it would be were its folder given."""
    if volume_ending(path):
        candidates, _ = _volume_candidates(sorted({*volume_files(path.parent), path}), channels)
        return [candidate for candidate in candidates if any(path in paths for paths in candidate.channels)], []
    series, notes = find_series(path.parent, modality, VOLUME_ENDINGS, with_folders_below=False)
    return [_series_candidate(one, path.parent, series, channels) for one in series if path in one.files], notes


def _of_folder(folder: Path, channels: int, modality: str | None) -> tuple[list[_Candidate], list[str]]:
    candidates, notes = _volume_candidates(volume_files(folder), channels)
    series, series_notes = find_series(folder, modality, VOLUME_ENDINGS)
    candidates += [_series_candidate(one, folder, series, channels) for one in series]
    return candidates, notes + series_notes


def _volume_candidates(files: Sequence[Path], channels: int) -> tuple[list[_Candidate], list[str]]:
    by_prefix: dict[str, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in files:
        match = re.fullmatch(r"(.+)_(\d{4})", stem(path))
        prefix, channel = (match[1], int(match[2])) if match else (stem(path), -1)
        by_prefix[prefix][channel].append(path)
    if channels == 1:
        return [_single(path, prefix, paths) for prefix, paths in by_prefix.items() for path in _all(paths)], []
    candidates, notes = [], []
    for prefix, by_channel in by_prefix.items():
        for path in by_channel.pop(-1, []):  # no channel in its name: the first channel of an incomplete case
            candidates.append(_Candidate((stem(path), _flat_name(path)), _padded([(path,)], channels), False))
        notes += [f"{path}: not used, the model has {channels} channels" for path in _all(by_channel, first=channels)]
        paths = [tuple(by_channel.get(channel, ())) for channel in range(channels)]
        if any(paths):
            candidates.append(_Candidate((prefix,), tuple(paths), False))
    return candidates, notes


def _single(path: Path, prefix: str, same_prefix: dict[int, list[Path]]) -> _Candidate:
    """Return a one-channel case; ``_0000`` is no part of its name unless other files differ by these digits only."""
    is_only_channel = set(same_prefix) == {0}
    names = ((prefix,) if is_only_channel else ()) + (stem(path), _flat_name(path))
    return _Candidate(names, ((path,),), False)


def _all(by_channel: dict[int, list[Path]], first: int = -1) -> list[Path]:
    return [path for channel, paths in sorted(by_channel.items()) if channel >= first for path in paths]


def _padded(paths: Sequence[tuple[Path, ...]], channels: int) -> tuple[tuple[Path, ...], ...]:
    return (*paths, *((),) * (channels - len(paths)))


def _flat_name(path: Path) -> str:
    return in_utf8(path.name.replace(".", "_"))


def _series_candidate(series: Series, root: Path, all_series: Sequence[Series], channels: int) -> _Candidate:
    """Return a DICOM case: named after its folder, then its path below the root, then its file or its UID.

    Headers say what they like: of what they say, only what can be part of a file's name is taken.
    """
    number, uid = (re.sub(r"[^\w.-]", "_", text).lstrip(".") for text in (series.number, series.uid))
    below = series.folder.relative_to(root).parts
    root_name = root.resolve().name or "series"
    whole = "_".join((root_name, *below))
    names = [below[-1] if below else root_name, "_".join(below) or root_name, whole]
    if sum(other.folder == series.folder for other in all_series) > 1:
        names = [f"{name}_{number}" for name in names if number]
    if len(series.files) == 1:
        names.append(f"{whole}_{in_utf8(series.files[0].name)}")
    names += [f"{whole}_{uid.replace('.', '')[-8:]}", f"{whole}_{uid}"]
    names = [in_utf8(name) for name in names]
    return _Candidate(tuple(dict.fromkeys(names)), _padded([series.files], channels), True, series.headers)


def _distinct_names(candidates: Sequence[Sequence[str]]) -> list[str]:
    """Return a name for each: the first of its own that no other takes, with a number where all are taken."""
    tries = [0] * len(candidates)
    while True:
        names = [own[index] for own, index in zip(candidates, tries, strict=True)]
        counts = Counter(names)
        movable = [i for i, name in enumerate(names) if counts[name] > 1 and tries[i] + 1 < len(candidates[i])]
        if not movable:
            break
        for i in movable:
            tries[i] += 1
    taken: set[str] = set(names)
    for i, name in enumerate(names):
        if name in names[:i]:
            number = next(number for number in range(2, len(names) + 2) if f"{name}_{number}" not in taken)
            names[i] = f"{name}_{number}"
            taken.add(names[i])
    return names
