"""Writes phantom cases in the folder layout of the BTCV download, so that every run also tests the converter.

``OUT/RawData/Training/img/img0001.nii.gz``, ``OUT/RawData/Training/label/label0001.nii.gz``,
``OUT/RawData/Testing/img/img0061.nii.gz``. BTCV keeps its test labels to itself; ours lie beside the download, in
``OUT/Testing_labels/label0061.nii.gz``.
"""

import json
import multiprocessing
import os
import shutil
import zipfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from tqdm import tqdm

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.images.nifti import write_nifti
from unetr_nnunet.phantom.acquisition import SIZES
from unetr_nnunet.phantom.case import generate_case

SETTINGS_FILE = "phantom.json"
ANATOMY_VERSION = 1
"""Raise when a change to the generator changes its output: folders of another version are refused."""

TRAINING_NUMBERS: tuple[int, ...] = (*range(1, 11), *range(21, 41))
TEST_NUMBERS: tuple[int, ...] = tuple(range(61, 81))
"""BTCV's own case numbers, training and test."""

MEMORY_GIB = {"demo": 0.3, "half": 0.6, "full": 1.0}


@dataclass(frozen=True)
class _Settings:
    size: str
    training: int
    testing: int
    seed: int
    anatomy_version: int = ANATOMY_VERSION

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ValueError(f"unknown phantom size {self.size!r}; choose one of {', '.join(SIZES)}")
        for name, count, most in (
            ("training", self.training, len(TRAINING_NUMBERS)),
            ("testing", self.testing, len(TEST_NUMBERS)),
        ):
            if not 0 <= count <= most:
                raise ValueError(f"{name} cases must be 0..{most}, the numbers BTCV has, got {count}")
        if self.training + self.testing == 0:
            raise ValueError("no cases to write: --training or --testing must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")


def write_phantom(
    out: Path,
    *,
    size: str = "half",
    training: int = 30,
    testing: int = 20,
    seed: int = 0,
    workers: int | None = None,
    as_zip: bool = False,
    show_progress: bool = False,
) -> Path:
    """Write a data set; cases that are there already are kept, so an interrupted run can be repeated.

    Args:
        out: folder to write to; made if missing.
        size: "demo", "half" or "full".
        training: number of training cases, at most 30: the first of BTCV's 0001-0010, 0021-0040.
        testing: number of test cases, at most 20: the first of 0061-0080.
        seed: the files depend on it, on the size and on nothing else.
        workers: processes; None: as many as cores and free memory allow.
        as_zip: write ``RawData.zip`` instead of the folder.
        show_progress: draw a progress bar.

    Returns:
        The download: ``out/RawData`` or ``out/RawData.zip``.

    Raises:
        ValueError: impossible settings, or ``out`` holds files of other settings or of another source.
    """
    settings = _Settings(size, training, testing, seed)
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    _claim(out, settings)
    _sweep(out)
    folder, archive = out / "RawData", out / "RawData.zip"
    numbers = TRAINING_NUMBERS[:training] + TEST_NUMBERS[:testing]
    if not archive.is_file():
        missing = [number for number in numbers if not all(path.is_file() for path in _paths(out, number))]
        _write_cases(out, missing, settings, workers or _default_workers(size), show_progress)
        if not as_zip:
            return folder
        _pack(folder, archive)
    elif not as_zip:
        raise ValueError(f"{archive} exists already: add --zip, or remove it to get the folder")
    if folder.is_dir():
        shutil.rmtree(folder)
    return archive


def write_case(out: Path, number: int, size: str, seed: int) -> None:
    """Write the files of one case, the image last, each whole or not at all."""
    case = generate_case(number, size, seed)
    image_path, label_path = _paths(out, number)
    for path, array in ((label_path, case.labels), (image_path, case.image_hu)):
        with atomic_path(path) as temporary:
            write_nifti(array, case.affine, temporary)


def _paths(out: Path, number: int) -> tuple[Path, Path]:
    image, label = f"img{number:04d}.nii.gz", f"label{number:04d}.nii.gz"
    if number in TEST_NUMBERS:
        return out / "RawData" / "Testing" / "img" / image, out / "Testing_labels" / label
    return out / "RawData" / "Training" / "img" / image, out / "RawData" / "Training" / "label" / label


def _claim(out: Path, settings: _Settings) -> None:
    """Write the settings into a fresh folder, or compare them with those it was made with."""
    path = out / SETTINGS_FILE
    if path.is_file():
        present = json.loads(path.read_text())
        wanted = asdict(settings)
        if present != wanted:
            differing = [
                f"{key} {present.get(key)} (now {wanted[key]})" for key in wanted if present.get(key) != wanted[key]
            ]
            raise ValueError(
                f"{out} holds a phantom made with {', '.join(differing)}; choose another folder or remove it"
            )
        return
    for name in ("RawData", "RawData.zip", "Testing_labels"):
        if (out / name).exists():
            raise ValueError(f"{out / name} exists but was not made by this command: choose another folder")
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(asdict(settings), indent=2) + "\n")


def _sweep(out: Path) -> None:
    """Remove the partial files of a run that was killed while writing."""
    for folder in ("RawData", "Testing_labels"):
        for left_over in (out / folder).rglob(".tmp-*"):
            left_over.unlink()
    for left_over in out.glob(".tmp-*-RawData.zip"):
        left_over.unlink()


def _default_workers(size: str) -> int:
    free_gib = psutil.virtual_memory().available / 2**30
    return max(1, min(len(os.sched_getaffinity(0)), int(free_gib / MEMORY_GIB[size])))


def _write_cases(out: Path, numbers: list[int], settings: _Settings, workers: int, show_progress: bool) -> None:
    with tqdm(total=len(numbers), desc="phantom", unit="case", disable=not show_progress or not numbers) as bar:
        if workers == 1 or len(numbers) <= 1:
            for number in numbers:
                write_case(out, number, settings.size, settings.seed)
                bar.update()
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(numbers)), mp_context=context) as pool:
            jobs = [pool.submit(write_case, out, number, settings.size, settings.seed) for number in numbers]
            try:
                for job in as_completed(jobs):
                    job.result()
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _pack(folder: Path, archive: Path) -> None:
    """Store (the files are compressed already) the folder in a zip that is the same for the same files."""
    with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as target:
        for path in sorted(folder.rglob("*.nii.gz")):
            entry = zipfile.ZipInfo(str(path.relative_to(folder.parent)))
            entry.external_attr = 0o644 << 16
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, target.open(entry, "w") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
