"""Do two images lie on the same grid?"""

from collections.abc import Iterable

import numpy as np
import SimpleITK as sitk

SPACING_TOLERANCE_MM = 1e-3
ORIGIN_TOLERANCE_MM = 1e-2
DIRECTION_TOLERANCE = 1e-3
"""Largest difference of a direction cosine. All three tolerances are above what float32 headers round off, and below
what moves any voxel of an abdominal CT by one voxel."""


def grid_differences(image: sitk.Image, reference: sitk.Image) -> list[str]:
    """Return in words how two grids differ beyond the tolerances; an empty list where they agree."""
    if image.GetSize() != reference.GetSize():
        return [f"size {image.GetSize()} against {reference.GetSize()} voxels (x, y, z)"]
    checks = (
        ("spacing", "mm", image.GetSpacing(), reference.GetSpacing(), SPACING_TOLERANCE_MM),
        ("origin", "mm", image.GetOrigin(), reference.GetOrigin(), ORIGIN_TOLERANCE_MM),
        ("direction", "", image.GetDirection(), reference.GetDirection(), DIRECTION_TOLERANCE),
    )
    return [
        f"{what} {_numbers(left)} against {_numbers(right)} {unit}".rstrip()
        for what, unit, left, right, tolerance in checks
        if not np.allclose(left, right, rtol=0, atol=tolerance)
    ]


def _numbers(values: Iterable[float]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"
