"""Read volumes that are stored as text: a list of voxel indices, with or without a value for each.

Format: that of https://github.com/ababier/open-kbp, a head line ``,data`` and lines of an index and a value or nothing.
"""

import io
import math
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unetr_nnunet.dataset_conversion.problems import Problem, ProblemsFoundError
from unetr_nnunet.dataset_conversion.source_files import SourceFile

SMALLEST_VOXEL_MM, LARGEST_VOXEL_MM = 1.0, 10.0
RESTORE = "restore the file from the repository: git checkout, or clone it again"

Indices = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


def read_mask(file: SourceFile, shape: Sequence[int]) -> Indices:
    """Return the indices of a structure's voxels in the flat volume (C order).

    Raises:
        ProblemsFoundError: the file is no such list, is empty or cut off, holds values, or names a voxel outside the
            volume.
    """
    return _indices(file, _rows(file, columns=1)[:, 0], shape)


def read_values(file: SourceFile, shape: Sequence[int], lowest: float, highest: float) -> tuple[Indices, Values]:
    """Return the indices of the voxels that are not 0 in the flat volume (C order), and their values.

    Raises:
        ProblemsFoundError: as `read_mask`, or a value is not within ``lowest`` and ``highest``.
    """
    rows = _rows(file, columns=2)
    values = rows[:, 1]
    if not np.isfinite(values).all():
        raise _refusal(file, "contains NaN or infinite values")
    if values.min() < lowest or values.max() > highest:
        fact = f"holds values from {values.min():g} to {values.max():g}, allowed are {lowest:g} to {highest:g}"
        raise _refusal(file, fact)
    return _indices(file, rows[:, 0], shape), values


def read_spacing_mm(file: SourceFile) -> Values:
    """Return the voxel size along each axis of the volume, in mm.

    Raises:
        ProblemsFoundError: it is not three numbers that a CT can have.
    """
    try:
        spacing_mm = np.array([float(word) for word in file.read_text().split()])
    except (OSError, ValueError) as error:
        raise _refusal(file, f"cannot be read ({error})") from error
    if len(spacing_mm) != 3:
        raise _refusal(file, f"holds {len(spacing_mm)} numbers instead of three voxel sizes")
    if not all(SMALLEST_VOXEL_MM <= size <= LARGEST_VOXEL_MM for size in spacing_mm):  # NaN is refused as well
        sizes = " x ".join(f"{size:g}" for size in spacing_mm)
        raise _refusal(file, f"gives voxels of {sizes} mm; {SMALLEST_VOXEL_MM:g} to {LARGEST_VOXEL_MM:g} are possible")
    return spacing_mm


def _rows(file: SourceFile, columns: int) -> Values:
    """Return the first columns of a list as (row, column)."""
    try:
        head, _, body = file.read_text().partition("\n")
        if not re.fullmatch(r",\w*\s*", head):
            raise ValueError(f"its first line is {head[:40]!r}, not ',data'")
        if not body.strip():
            raise _refusal(file, "lists no voxel")
        if not body.endswith("\n"):
            raise _refusal(file, "ends in the middle of a line")
        if columns == 1 and (value := re.search(r",[^\S\n]*([^\s,]+)", body)):
            raise _refusal(file, f"holds values, such as {value[1]}, where a contour has none")
        return np.loadtxt(io.StringIO(body), delimiter=",", usecols=range(columns), ndmin=2, comments=None)
    except ProblemsFoundError:
        raise
    except (OSError, ValueError) as error:
        raise _refusal(file, f"cannot be read ({error})") from error


def _indices(file: SourceFile, numbers: Values, shape: Sequence[int]) -> Indices:
    count = math.prod(shape)
    wrong = numbers[~((numbers >= 0) & (numbers < count) & (numbers == np.floor(numbers)))]
    if wrong.size:
        size = " x ".join(map(str, shape))
        raise _refusal(file, f"names the voxel {wrong[0]:.10g}; {size} voxels have the whole numbers 0 to {count - 1}")
    indices = numbers.astype(np.int64)
    if (np.bincount(indices) > 1).any():
        raise _refusal(file, "names a voxel twice")
    return indices


def _refusal(file: SourceFile, fact: str) -> ProblemsFoundError:
    return ProblemsFoundError([Problem(file.name, fact, RESTORE)])
