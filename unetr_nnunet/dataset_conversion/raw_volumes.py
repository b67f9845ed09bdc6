"""Read the volumes of a raw data set to their end and check their voxels, their labels and where they lie."""

import hashlib
import itertools
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from tqdm.contrib.concurrent import thread_map

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.dataset_conversion.cases import SourceCase, check_case, check_channel
from unetr_nnunet.dataset_conversion.image_checks import AGAIN
from unetr_nnunet.dataset_conversion.label_layers import LabelLayer
from unetr_nnunet.dataset_conversion.problems import Problem
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.images.files import VOLUME_ENDINGS
from unetr_nnunet.images.grid import grid_differences
from unetr_nnunet.images.label_maps import UNORIENTED, read_label_map
from unetr_nnunet.images.read import read_image

MOST_NOTES = 5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawCase:
    """The files of a training case: an image for each channel, and the label map."""

    images: tuple[Path, ...]
    label: Path


def name_below(folder: Path, path: Path) -> str:
    """Return the path below the data set's folder, or the whole path of a file elsewhere."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def check_volumes(folder: Path, table: Mapping[str, Any], cases: Mapping[str, RawCase], stamp: Path) -> list[Problem]:
    """Read all volumes of the cases that are complete, and compare those of a case with each other.

    Args:
        folder: of the raw data set.
        table: content of its ``dataset.json``.
        cases: by identifier.
        stamp: file that remembers that these files, of these sizes and times, had no problems; then none is read.
    """
    whole = [case for case in cases.values() if all(path.is_file() for path in (*case.images, case.label))]
    ending = str(table["file_ending"]).lower()
    if ending not in VOLUME_ENDINGS:
        return []
    files = [path for case in whole for path in (*case.images, case.label)]
    rows = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = json.dumps(hashlib.sha256(json.dumps([table["labels"], rows]).encode()).hexdigest())
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
        return []
    of_labels = (entry if isinstance(entry, list) else [entry] for entry in table["labels"].values())
    values = dict.fromkeys((0, *itertools.chain.from_iterable(of_labels)), 0)
    check = partial(_check_case, folder, values, _check_nifti if ".nii" in ending else _check_other)
    workers = min(8, os.cpu_count() or 1)
    results = thread_map(check, whole, max_workers=workers, desc="checking the raw data", unit="case", disable=None)
    notes = [note for _, of_case in results for note in of_case]
    for note in notes[:MOST_NOTES]:
        _log.warning("%s", note)
    if len(notes) > MOST_NOTES:
        _log.warning("... and %d more files of this kind", len(notes) - MOST_NOTES)
    problems = [problem for of_case, _ in results for problem in of_case]
    if not problems:
        with atomic_path(stamp) as temporary:
            temporary.write_text(digest, encoding="utf-8")
    return problems


Found = tuple[list[Problem], Sequence[str]]
"""Problems of a case, and notes on what was mended or assumed."""
Check = Callable[[Path, Mapping[int, int], RawCase], Found]


def _check_case(folder: Path, values: Mapping[int, int], check: Check, case: RawCase) -> Found:
    try:
        return check(folder, values, case)
    except OSError as error:
        name = name_below(folder, Path(error.filename)) if error.filename else name_below(folder, case.label)
        return [Problem(name, f"cannot be read ({error.strerror})", "make it readable")], ()


def _check_nifti(folder: Path, values: Mapping[int, int], case: RawCase) -> Found:
    image, *others, label = (SourceFile(name_below(folder, path), 0, 0, path) for path in (*case.images, case.label))
    checked = check_case(SourceCase(image, (LabelLayer(label, values),)), assumed_orientation=UNORIENTED)
    problems = list(checked.problems)
    for channel in others:
        problems += check_channel(channel, checked.image, UNORIENTED)
    return problems, checked.notes


def _check_other(folder: Path, values: Mapping[int, int], case: RawCase) -> Found:
    """Check a case in a format that SimpleITK reads."""
    problems = []
    first: sitk.Image | None = None
    for path in (*case.images, case.label):
        name = name_below(folder, path)
        try:
            volume, labels = read_label_map(path) if path == case.label else (read_image(path), None)
        except ValueError as error:
            problems.append(Problem(name, str(error).removeprefix(f"{path} "), AGAIN))
            continue
        first = first or volume
        if differences := grid_differences(volume, first):
            fact = f"lies on another grid than its image: {'; '.join(differences)}"
            problems.append(Problem(name, fact, "use files that belong together, in the same place"))
        if labels is not None and (unknown := sorted({*np.unique(labels).tolist()} - set(values))):
            fact = f"label values {unknown} are not in dataset.json"
            problems.append(Problem(name, fact, "use the original label file, or correct dataset.json"))
    return problems, ()
