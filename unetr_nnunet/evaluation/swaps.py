"""Left and right confused: which columns are a pair, and what share of an organ is labelled as its partner."""

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

OTHER_SIDE = {"left": "right", "right": "left"}


def find_partners(columns: Iterable[str]) -> dict[str, str]:
    """Return the partner of each column that is one of a pair.

    Two columns are a pair where their names differ in the word "left" or "right" only: ``right_kidney`` and
    ``left_kidney``, ``kidney_right`` and ``kidney_left``. Case makes no difference.
    """
    by_name = {column.lower(): column for column in columns}
    mirrored = {column: re.sub(r"(?<![a-z])(left|right)(?![a-z])", _other, name) for name, column in by_name.items()}
    return {column: by_name[name] for column, name in mirrored.items() if name in by_name and by_name[name] != column}


def _other(side: "re.Match[str]") -> str:
    return OTHER_SIDE[side.group()]


def swapped_share(histogram: npt.NDArray[np.int64], labels: tuple[int, ...], partner_labels: tuple[int, ...]) -> float:
    """Return the share of an organ's true voxels that are labelled as its partner, NaN where there are none.

    Args:
        histogram: ``[t, p]`` voxels that are t in truth and p in the prediction (see ``label_histogram``).
        labels: the organ's labels.
        partner_labels: those of the organ on the other side.
    """
    true_voxels = int(histogram[list(labels)].sum())
    if true_voxels == 0:
        return float("nan")
    return int(histogram[np.ix_(labels, partner_labels)].sum()) / true_voxels
