"""DICOM series in a folder and below it, told apart by their headers, in slice order."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pydicom.config import IGNORE
from pydicom.uid import UID, MediaStorageDirectoryStorage

from unetr_nnunet.images.dicom_header import DICOM_ENDINGS, SliceHeader, is_blank, is_dicom, read_header

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""SOP class, and the beginning of those with several frames."""
_NO_SCAN = {"LOCALIZER": "localizer", "SCOUT": "localizer", "SCREEN SAVE": "screen capture"}
"""Values of ImageType that mark an image of something else than the body's slices."""


@dataclass(frozen=True)
class Series:
    """One series in one folder.

    Attributes:
        folder: that holds it.
        number: SeriesNumber as it is written, "" if missing.
        uid: SeriesInstanceUID, "" if missing (anonymised or damaged files).
        files: in slice order.
        headers: of the files, without those that are damaged.
    """

    folder: Path
    number: str
    uid: str
    files: tuple[Path, ...]
    headers: tuple[SliceHeader, ...] = field(default=(), repr=False, compare=False)


def find_series(
    root: Path, modality: str | None, other_endings: Sequence[str], with_folders_below: bool = True
) -> tuple[list[Series], list[str]]:
    """Find the series of images in a folder and below it.

    Hidden files and folders are left out, links are followed once. A file that is DICOM by its ending only, that cannot
    be read, or that is empty and named as the slices are, belongs to every series of its folder, unless its header
    tells which: they are then reported as broken, not read without it.

    Args:
        root: folder to begin with.
        modality: see `unetr_nnunet.images.cases.find_cases`.
        other_endings: of files that are no DICOM, in lower case.
        with_folders_below: search the folders below as well.

    Returns:
        The series, by folder and number, and a note on everything that was skipped.
    """
    all_series: list[Series] = []
    notes: list[str] = []
    folders_of: dict[str, list[str]] = defaultdict(list)
    for folder in _folders(root) if with_folders_below else [root]:
        try:
            files = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
            volumes = [path for path in files if path.name.lower().endswith(tuple(other_endings))]
            series, skipped = _series_of_folder(folder, sorted(set(files) - set(volumes)), modality)
        except OSError as error:
            notes.append(f"{folder} cannot be read: {error.strerror or error}")
            continue
        if volumes and folder != root:
            notes.append(f"{folder} holds {len(volumes)} volume file(s), not searched for below {root}")
        all_series += series
        notes += skipped
        for uid in {one.uid for one in series if one.uid}:
            folders_of[uid].append(str(folder))
    for uid, folders in folders_of.items():
        if len(folders) > 1:
            notes.append(f"series {uid} lies in {len(folders)} folders, each a case of its own: {', '.join(folders)}")
    return all_series, notes


def _folders(root: Path) -> Iterator[Path]:
    """Yield a folder and all below it, parents first, and each once even if links lead to it."""
    seen: set[Path] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        real = folder.resolve()
        if real in seen:
            continue
        seen.add(real)
        yield folder
        try:
            below = [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir()]
        except OSError:  # said when its files are listed
            continue
        waiting += sorted(below, reverse=True)


def _series_of_folder(folder: Path, files: Sequence[Path], modality: str | None) -> tuple[list[Series], list[str]]:
    groups, damaged = _grouped(files, modality)
    notes = [
        f"{folder}: series {headers[0].series_number or uid or '?'} skipped ({len(headers)} files): {reason}"
        for (reason, uid, _), headers in groups.items()
        if reason
    ]
    series = []
    for (reason, uid, _), headers in groups.items():
        if not reason:
            ordered = tuple(in_slice_order(headers))
            series.append(Series(folder, headers[0].series_number, uid, tuple(h.path for h in ordered), ordered))
    series.sort(key=lambda one: (one.number.zfill(12), one.files))
    if damaged and not series:
        return [Series(folder, "", "", tuple(damaged))], notes
    known = {one.uid for one in series}
    return [
        replace(one, files=(*one.files, *(path for path, uid in damaged.items() if uid == one.uid or uid not in known)))
        for one in series
    ], notes


_Groups = dict[tuple[str, str, Path | None], list[SliceHeader]]


def _grouped(files: Sequence[Path], modality: str | None) -> tuple[_Groups, dict[Path, str]]:
    """Group DICOM files by (reason to skip it, series UID, file where it is a volume of its own).

    The second result are the damaged files, each with its series UID as far as it is known.
    """
    groups: _Groups = defaultdict(list)
    damaged: dict[Path, str] = {}
    doubtful: list[Path] = []
    for path in files:
        try:
            if not is_dicom(path):
                doubtful += [path] if is_blank(path) else []
                continue
            header = read_header(path)
        except ValueError:
            damaged[path] = ""
            continue
        except OSError:
            doubtful.append(path)
            continue
        if header.sop_class == MediaStorageDirectoryStorage:
            continue
        reason = _why_skipped(header, modality)
        if not reason and header.data_bytes <= 0:
            damaged[path] = header.series_uid
            continue
        own_volume = path if header.frames > 1 and not reason else None
        groups[reason, header.series_uid, own_volume].append(header)
    slices = [header.path for (reason, _, _), headers in groups.items() if not reason for header in headers]
    endings = {*DICOM_ENDINGS, *map(_ending, slices)}
    damaged |= {path: "" for path in doubtful if _ending(path) in endings}
    return groups, damaged


def _ending(path: Path) -> str:
    """Return a file's ending in lower case, "" for one of digits: file names may be UIDs."""
    ending = path.suffix.lower()
    return "" if ending[1:].isdecimal() else ending


def _why_skipped(header: SliceHeader, modality: str | None) -> str:
    """Return why a file is no slice of a scan, "" where it is one."""
    if header.sop_class.startswith(_SECONDARY_CAPTURE):
        return "secondary capture"
    if modality and not modality.startswith(header.modality):  # what a file cut short holds of it
        return f"modality {header.modality}, the model is for {modality}"
    sop_class = UID(header.sop_class, IGNORE)
    is_known = sop_class.name != sop_class  # neither private nor cut short
    if (is_known and "Image Storage" not in sop_class.name) or (
        sop_class.is_private and header.rows < 1 and header.modality
    ):
        return f"no image (modality {header.modality or 'unknown'})"
    return next((_NO_SCAN[value] for value in header.image_type if value in _NO_SCAN), "")


def in_slice_order(headers: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Sort slices along the normal of the first; by file name where one tells no position or orientation."""
    headers = sorted(headers, key=lambda header: header.path)
    if not all(header.position_mm and header.orientation for header in headers):
        return headers
    normal = np.cross(headers[0].orientation[:3], headers[0].orientation[3:])
    along_mm = np.array([header.position_mm for header in headers]) @ normal
    return [headers[index] for index in np.argsort(along_mm, kind="stable")]
