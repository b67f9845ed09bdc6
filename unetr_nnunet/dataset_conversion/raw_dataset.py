"""Write a data set in nnU-Net's raw format so that it can be killed at any moment and run again.

Every file appears whole or not at all; ``conversion.json`` comes first and says what the folder is going to be,
``dataset.json`` comes last and says that it is complete. Image bytes are linked or copied, never decoded.
Format: documentation/dataset_format.md of MIC-DKFZ/nnUNet.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm.contrib.concurrent import thread_map

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.dataset_conversion.image_checks import Volume
from unetr_nnunet.dataset_conversion.label_layers import LabelLayer, write_label_map
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.nnunet.splits import FILE_NAME as SPLITS_FILE

LinkMode = Literal["auto", "hard", "copy"]

DATASET_FILE = "dataset.json"
CONVERSION_FILE = "conversion.json"
FREE_SPACE_MARGIN_BYTES = 64 << 20
_LINK_REFUSED = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP)


@dataclass(frozen=True)
class PlannedFile:
    """One file of the data set.

    Attributes:
        target: path below the data set folder.
        sources: the file it comes from, or the several that are merged.
        rewrite: None to take the bytes over; else how the label map is made.
    """

    target: str
    sources: tuple[SourceFile, ...]
    rewrite: "LabelRewrite | None" = None


@dataclass(frozen=True)
class LabelRewrite:
    """How to write a label map as uint8 instead of taking its bytes over.

    Attributes:
        layers: the label files and what their values mean.
        image: the image whose geometry the label map gets.
    """

    layers: tuple[LabelLayer, ...]
    image: Volume


def plan_identity(settings: dict[str, Any], files: Sequence[PlannedFile]) -> str:
    """Return a digest of what is converted from which files (name, size, time or CRC) to which targets."""
    rows = sorted(
        (file.target, source.name, source.size_bytes, source.stamp) for file in files for source in file.sources
    )
    return hashlib.sha256(json.dumps([settings, rows], sort_keys=True).encode()).hexdigest()


def check_target(folder: Path, identity: str, overwrite: bool) -> bool:
    """Tell whether an unfinished conversion can be continued.

    Returns:
        True where ``folder`` holds an unfinished conversion of the same identity and ``overwrite`` is not set.

    Raises:
        FileExistsError: the folder holds something else and ``overwrite`` is not set.
    """
    if overwrite or not folder.exists() or all(entry.name.startswith(".tmp-") for entry in folder.iterdir()):
        return False
    if (folder / DATASET_FILE).exists():
        raise FileExistsError(f"{folder} is a finished data set and was left as it is; --overwrite replaces it")
    try:
        same = json.loads((folder / CONVERSION_FILE).read_text(encoding="utf-8"))["identity"] == identity
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        raise FileExistsError(
            f"{folder} exists and was not written by convert: move it away, or replace it with --overwrite"
        ) from None
    if not same:
        raise FileExistsError(
            f"{folder} holds an unfinished conversion of another source or with other settings: "
            "finish it with those, or replace it with --overwrite"
        )
    return True


def check_dataset_id(raw_root: Path, folder_name: str) -> None:
    """Refuse an id that another data set has: nnU-Net looks data sets up by id, in all of its three folders.

    Raises:
        FileExistsError: another folder ``DatasetXXX_...`` with the same number exists.
    """
    number = folder_name.split("_", maxsplit=1)[0]
    roots = [
        raw_root,
        *(Path(os.environ[key]) for key in ("nnUNet_preprocessed", "nnUNet_results") if key in os.environ),
    ]
    for root in roots:
        for other in sorted(root.glob(f"{number}*")) if root.is_dir() else ():
            if other.is_dir() and other.name != folder_name:
                raise FileExistsError(
                    f"{other} already has the number of {folder_name}, and nnU-Net refuses a number with two names: "
                    "choose another --dataset-id, or give the same --name"
                )


def can_link(files: Sequence[PlannedFile], raw_root: Path, mode: LinkMode) -> bool:
    """Tell whether the files will be hard-linked.

    Raises:
        ValueError: ``mode`` is "hard" and the source is a zip or lies on another file system.
    """
    existing = next(folder for folder in (raw_root, *raw_root.resolve().parents) if folder.exists())
    device = existing.stat().st_dev
    paths = [source.path for file in files for source in file.sources]
    possible = all(path is not None and path.stat().st_dev == device for path in paths)
    if mode == "hard" and not possible:
        raise ValueError("--link hard needs an extracted source on the file system of the output: use --link copy")
    return possible and mode != "copy"


def bytes_to_write(files: Sequence[PlannedFile], continued: Path | None, link: bool) -> int:
    """Return how many bytes are to be written, without what is linked or lies in the folder that is continued."""
    return sum(
        source.size_bytes
        for file in files
        if (file.rewrite is not None or not link) and not (continued is not None and _is_done(file, continued))
        for source in file.sources
    )


def check_free_space(root: Path, needed_bytes: int) -> None:
    """Refuse to start if there is too little disk space.

    Raises:
        OSError: less than ``needed_bytes`` plus a margin is free (errno ENOSPC).
    """
    existing = next(folder for folder in (root, *root.resolve().parents) if folder.exists())
    free_bytes = shutil.disk_usage(existing).free
    if needed_bytes and free_bytes < needed_bytes + FREE_SPACE_MARGIN_BYTES:
        raise OSError(
            f"{needed_bytes / 2**30:.2f} GiB are to be written to {existing}, but only {free_bytes / 2**30:.2f} GiB "
            "are free: free some space, or choose another place with --output"
        )


def write_dataset(
    folder: Path,
    files: Sequence[PlannedFile],
    dataset: dict[str, Any],
    conversion: dict[str, Any],
    splits: list[dict[str, list[str]]],
    link: bool,
    workers: int,
    keep_existing: bool,
) -> None:
    """Write the whole data set; run again after a kill, it continues.

    Args:
        folder: ``.../nnUNet_raw/DatasetXXX_Name``.
        files: images and labels.
        dataset: content of ``dataset.json``, written last.
        conversion: content of ``conversion.json`` (must hold ``identity``), written first.
        splits: content of ``splits_final.json``; empty for none.
        link: hard-link where the file system allows it.
        workers: threads.
        keep_existing: continue in what is there; otherwise it is removed first.

    Raises:
        OSError: the disk is full or not writable. No file is left half written.
    """
    if folder.exists() and not keep_existing:
        (folder / DATASET_FILE).unlink(missing_ok=True)  # first: from here on the folder counts as unfinished
        shutil.rmtree(folder)
    for leftover in folder.rglob(".tmp-*"):
        leftover.unlink()
    try:
        _write_json(folder / CONVERSION_FILE, conversion)  # first: without it the folder would count as a stranger's
        todo = [file for file in files if not _is_done(file, folder)]
        thread_map(
            lambda file: _write_file(file, folder, link), todo, max_workers=workers, desc="writing", disable=None
        )
        if splits:
            _write_json(folder / SPLITS_FILE, splits)
        _write_json(folder / DATASET_FILE, dataset)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            errno.ENOSPC, f"the disk is full: free some space and run the same command again, it continues in {folder}"
        ) from error


def _is_done(file: PlannedFile, folder: Path) -> bool:
    """Tell whether a copy is there in full; what is rewritten or made, whose size is not known, is made again."""
    target, source = folder / file.target, file.sources[0]
    is_copy = file.rewrite is None and source.made is None
    return is_copy and target.exists() and target.stat().st_size == source.size_bytes


def _write_json(path: Path, content: Any) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_file(file: PlannedFile, folder: Path, link: bool) -> None:
    target = folder / file.target
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.rewrite is not None:
        write_label_map(file.rewrite.layers, file.rewrite.image, target)
        return
    source = file.sources[0]
    if not (link and source.path is not None and _hard_link(source.path, target)):
        with source.open() as stream, atomic_path(target) as temporary, temporary.open("wb") as copy:
            shutil.copyfileobj(stream, copy, 1 << 20)


def _hard_link(source: Path, target: Path) -> bool:
    """Link, replacing a truncated target; False where the file system or its owner rules forbid it."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source.resolve())
    except OSError as error:
        if error.errno in _LINK_REFUSED:
            return False
        raise
    return True
