"""Voxel values of a scan: finite, and in the smallest type that a CT needs."""

from typing import Any

import numpy as np
import numpy.typing as npt


def refuse_not_finite(voxels: npt.NDArray[Any], name: str) -> None:
    """Refuse NaN, infinity, and what becomes infinite in the float32 that everything is computed in.

    Args:
        voxels: of any shape and type; looked at along the first axis, so that no copy of the whole is made.
        name: for the message.

    Raises:
        ValueError: a voxel is NaN, infinite or beyond float32.
    """
    if not np.issubdtype(voxels.dtype, np.floating):
        return
    with np.errstate(over="ignore"):
        wrong = sum(int(np.count_nonzero(~np.isfinite(part.astype(np.float32, copy=False)))) for part in voxels)
    if wrong:
        raise ValueError(
            f"{name} holds {wrong} voxels that are NaN or infinite; replace them, with air (-1000) in a CT"
        )


def compact(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return integers as int16, or int32 where they need it, and everything else as float32; itself where it fits."""
    if voxels.dtype == np.int16 or voxels.dtype == np.float32:
        return voxels
    if np.issubdtype(voxels.dtype, np.integer) or voxels.dtype == bool:
        low, high = int(voxels.min()), int(voxels.max())
        for integer in (np.int16, np.int32):
            if np.iinfo(integer).min <= low and high <= np.iinfo(integer).max:
                return voxels.astype(integer, copy=False)
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which is refused
        return voxels.astype(np.float32)
