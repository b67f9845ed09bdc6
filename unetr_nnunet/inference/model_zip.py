"""Unpack a model that nnUNetv2_export_model_to_zip wrote, into a temporary folder and nowhere else."""

import contextlib
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from unetr_nnunet.inference.model_set import FILE
from unetr_nnunet.nnunet.label_statistics import FILE as LABEL_STATISTICS

GIB = 2**30
MAX_GIB = 64
"""Largest size of a zip file's unpacked contents: more than ten folds of the largest networks take."""
MAX_RATIO = 20
"""Largest ratio of unpacked to packed size: trained weights hardly shrink, a zip bomb shrinks a thousandfold."""
FREE_GIB = 1
"""Contents up to this size may shrink as they like."""


@contextlib.contextmanager
def model_folder(model: Path) -> Iterator[Path]:
    """Yield a model folder, unpacked from a zip file for as long as the block runs where it is in one.

    Only plans, ``dataset.json``, checkpoints and what our trainers learn of the labels are unpacked.

    Args:
        model: model folder; or zip file as nnU-Net's export writes it, of a model folder itself, or of a chosen set.

    Yields:
        The model folder; that of a zip file lies in a temporary folder (below ``TMPDIR``).

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if the file is no zip file or damaged, holds no model or several, names a place outside itself or a
            link, or unpacks to more than `MAX_GIB`, or beyond `FREE_GIB` to more than `MAX_RATIO` times its size.
        OSError: if the temporary folder has too little space.
    """
    if model.is_dir():
        yield model
        return
    if not model.is_file():
        raise FileNotFoundError(f"{model}: there is no such model folder or zip file")
    with tempfile.TemporaryDirectory(prefix="model-", ignore_cleanup_errors=True) as temporary:
        yield _unpack(model, Path(temporary))


def _unpack(archive: Path, folder: Path) -> Path:
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            _check_entries(archive, entries)
            model = _model_in(archive, entries)
            wanted = [entry for entry in entries if _is_needed(PurePosixPath(entry.filename), model)]
            _check_space(archive, wanted, folder)
            for entry in wanted:
                opened.extract(entry, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # encrypted entries raise RuntimeError
        raise ValueError(f"{archive} is no zip file that can be read ({error}): copy it again") from error
    return folder / model


def _check_entries(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    for entry in entries:
        name = entry.orig_filename
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
            raise ValueError(f"{archive} is refused: its entry {name!r} leads out of the folder it is unpacked to")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"{archive} is refused: its entry {name!r} is a link or a device, not a file or a folder")
    unpacked, packed = sum(entry.file_size for entry in entries), archive.stat().st_size
    if unpacked > MAX_GIB * GIB or unpacked > max(FREE_GIB * GIB, MAX_RATIO * packed):
        raise ValueError(
            f"{archive} is refused: it unpacks from {packed / GIB:.3g} to {unpacked / GIB:.3g} GiB; the limits are "
            f"{MAX_GIB} GiB and, beyond {FREE_GIB} GiB, {MAX_RATIO} times its size. Where you trust it, unpack it "
            "yourself and name the folder"
        )


def _model_in(archive: Path, entries: list[zipfile.ZipInfo]) -> PurePosixPath:
    """Return the path of the one model folder in a zip file, or of the folder of a chosen set of models."""
    files = {PurePosixPath(entry.filename) for entry in entries if not entry.is_dir()}
    sets = [path.parent for path in files if path.name == FILE]
    if len(sets) == 1:
        return sets[0]
    models = sorted({path.parent for path in files if path.name == "plans.json"})
    if not models:
        raise ValueError(f"{archive} holds no model: there is no plans.json in it; export one with nnU-Net's command")
    if len(models) > 1:
        raise ValueError(
            f"{archive} holds {len(models)} models, {', '.join(map(str, models))}: unpack it and name one of them"
        )
    return models[0]


def _is_needed(path: PurePosixPath, model: PurePosixPath) -> bool:
    if path.name in ("plans.json", "dataset.json", LABEL_STATISTICS, FILE):
        return model in (path.parent, path.parent.parent)
    return model in path.parents and path.parent.name.startswith("fold_") and path.suffix == ".pth"


def _check_space(archive: Path, entries: list[zipfile.ZipInfo], folder: Path) -> None:
    needed, free = sum(entry.file_size for entry in entries), shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{archive} unpacks to {needed / GIB:.3g} GiB, and {folder.parent} has {free / GIB:.3g} GiB free: let "
            "TMPDIR name a folder with more space"
        )
