"""Label map files: read one, find those of a folder, join two folders case by case."""

import gzip
import hashlib
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

FILE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")


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


def find_label_files(folder: Path) -> dict[str, list[Path]]:
    """Return the label map files of a folder by stem (file name without its ending), hidden files left out.

    Raises:
        ValueError: there is no such folder, or no label map in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        ending = next((ending for ending in FILE_ENDINGS if path.name.endswith(ending)), None)
        if ending and not path.name.startswith(".") and path.is_file():
            found[path.name.removesuffix(ending)].append(path)
    if not found:
        raise ValueError(f"{folder} holds no label map ({', '.join(FILE_ENDINGS)})")
    return dict(found)


def pair_cases(predictions: Path, labels: Path) -> Pairing:
    """Join two folders by file stem, and what is left by the four digits at the end of the stem.

    The digits join BTCV's ``label0061.nii.gz`` with ``BTCV_0061.nii.gz``. Where two files on one side could be meant,
    the case is ambiguous and none of them is taken.

    Raises:
        ValueError: a folder is missing or empty, both are the same, or no case is in both.
    """
    if predictions.is_dir() and labels.is_dir() and predictions.samefile(labels):
        raise ValueError(f"predictions and labels are the same folder, {predictions}")
    predicted, labelled = find_label_files(predictions), find_label_files(labels)
    candidates = {stem: (predicted.pop(stem), labelled.pop(stem)) for stem in sorted(predicted.keys() & labelled)}
    predicted_by_digits, labelled_by_digits = _by_digits(predicted), _by_digits(labelled)
    for digits in sorted(predicted_by_digits.keys() & labelled_by_digits):
        stems, label_stems = predicted_by_digits[digits], labelled_by_digits[digits]
        case = stems[0] if len(stems) == 1 else f"*{digits}"
        candidates[case] = (_pop_all(predicted, stems), _pop_all(labelled, label_stems))
    if not candidates:
        raise ValueError(
            f"no case is in both folders: {predictions} holds {_some(predicted)}, {labels} holds {_some(labelled)}; "
            "name both alike, or end both names with the same four digits"
        )
    ambiguous = {
        case: "more than one file could be meant: " + ", ".join(path.name for path in (*left, *right))
        for case, (left, right) in candidates.items()
        if len(left) > 1 or len(right) > 1
    }
    pairs = {case: (left[0], right[0]) for case, (left, right) in candidates.items() if case not in ambiguous}
    return Pairing(dict(sorted(pairs.items())), ambiguous, sorted(labelled), sorted(predicted))


def _by_digits(stems: Iterable[str]) -> dict[str, list[str]]:
    """Group stems by the four digits they end with (exactly four); others are left out."""
    groups: dict[str, list[str]] = defaultdict(list)
    for stem in stems:
        match = re.search(r"(?<!\d)\d{4}$", stem)
        if match:
            groups[match.group()].append(stem)
    return groups


def _pop_all(files: dict[str, list[Path]], stems: list[str]) -> list[Path]:
    return [path for stem in stems for path in files.pop(stem)]


def _some(files: dict[str, list[Path]]) -> str:
    return ", ".join(sorted(files)[:3]) + (", ..." if len(files) > 3 else "")


def read_label_map(path: Path) -> tuple[sitk.Image, npt.NDArray[np.integer]]:
    """Read a label map.

    Returns:
        The image (for its geometry) and its voxels (Z, Y, X) as integers.

    Raises:
        ValueError: the file is corrupt or cut short, not a volume with one value a voxel, or a value is no integer of
            32 bits.
    """
    stored_bytes = _uncompressed_size(path)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path} cannot be read: {str(error).strip().splitlines()[-1]}") from error
    _refuse_short_nifti(path, image, stored_bytes)
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(
            f"{path} is no label volume: {image.GetDimension()} dimensions, "
            f"{image.GetNumberOfComponentsPerPixel()} value(s) a voxel; 3 and 1 are needed"
        )
    voxels = sitk.GetArrayFromImage(image)
    if np.can_cast(voxels.dtype, np.int32):
        return image, voxels
    if np.issubdtype(voxels.dtype, np.integer):
        return image, _in_32_bits(path, voxels)
    if _is_nifti(image):  # SimpleITK reads NaN and infinity in NIfTI as 0
        voxels = np.asarray(nibabel.load(path).dataobj).T.reshape(voxels.shape)
    labels = np.where(np.abs(voxels) < 2**31, np.rint(voxels), 0).astype(np.int32)
    wrong = labels != voxels
    if wrong.any():
        raise ValueError(f"{path} holds {voxels[wrong][0]:g}, which is no label; labels are integers (is it an image?)")
    return image, labels


def _in_32_bits(path: Path, voxels: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """Return wide integers as narrower ones: NumPy counts no uint64, and joins it with others as floats."""
    limits = np.iinfo(np.int32)
    for value in (int(voxels.min(initial=0)), int(voxels.max(initial=0))):
        if not limits.min <= value <= limits.max:
            raise ValueError(f"{path} holds {value}, which is no label; labels are small integers (is it an image?)")
    return voxels.astype(np.int32)


def fingerprint(pair: tuple[Path, Path]) -> dict[str, str]:
    """Return the SHA-256 of a (prediction, label) pair of files, so that others in their place are noticed.

    Raises:
        OSError: a file cannot be read.
    """
    return {side: hash_file(path) for side, path in zip(("prediction", "label"), pair, strict=True)}


def hash_file(path: Path) -> str:
    """Return a file's SHA-256, as ``sha256sum`` prints it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_nifti(image: sitk.Image) -> bool:
    return image.HasMetaDataKey("bitpix")


def _uncompressed_size(path: Path) -> int:
    """Return the bytes in a file, unpacked if it is gzipped; refuse a damaged gzip stream."""
    if path.suffix != ".gz":
        return path.stat().st_size
    size = 0
    try:
        with gzip.open(path) as stream:
            while chunk := stream.read(1 << 22):
                size += len(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file: {error}") from error
    return size


def _refuse_short_nifti(path: Path, image: sitk.Image, stored_bytes: int) -> None:
    """Refuse a NIfTI file that was cut short: SimpleITK fills what is missing with zeros, without a word."""
    if not _is_nifti(image):  # the other readers check this themselves
        return
    voxel_bytes = image.GetNumberOfPixels() * int(image.GetMetaData("bitpix")) // 8
    needed = int(float(image.GetMetaData("vox_offset"))) + voxel_bytes
    if stored_bytes < needed:
        raise ValueError(f"{path} is cut short: {stored_bytes} bytes where its header asks for {needed}")
