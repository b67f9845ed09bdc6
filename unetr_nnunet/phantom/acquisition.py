"""The scan of a case: grid, spacing, storage orientation, posture and noise.

World millimetres are LPS (x to the patient's left, y to the back, z to the head) as in DICOM; the template's origin
lies in front of the second lumbar vertebra. Grids are drawn from the range of BTCV: 512 x 512 x 85..198 voxels of
0.54-0.98 mm in the plane and 2.5-5.0 mm along z.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from unetr_nnunet.phantom.shapes import FloatArray

SIZES = ("demo", "half", "full")
Z_SAMPLES = 2
"""Each slice is the mean of this many thinner ones: partial volume along z."""

KNOT_MM = 24.0
FIELD_LOWER_MM = (-280.0, -280.0, -420.0)
FIELD_KNOTS = (26, 26, 32)


@dataclass(frozen=True)
class Acquisition:
    """The voxel grid of one case.

    Attributes:
        shape: voxels (Z, Y, X).
        spacing_mm: voxel size (z, y, x).
        first_mm: world position (z, y, x) of the voxel with the lowest coordinates.
        orientation: "LPS" or "RAS", the directions in which stored x, y, z indices grow.
        noise_hu: standard deviation of the noise inside the body.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    first_mm: tuple[float, float, float]
    orientation: str
    noise_hu: float

    def world_mm(self, axis: int) -> FloatArray:
        """Return the world coordinates along an axis (0 = z) of this grid."""
        return (self.first_mm[axis] + self.spacing_mm[axis] * np.arange(self.shape[axis])).astype(np.float32)

    def affine_ras(self, scanner_offset_mm: tuple[float, float, float]) -> NDArray[np.float64]:
        """Return the NIfTI affine (stored x, y, z index to RAS millimetres) of the stored array."""
        steps = np.array(self.spacing_mm[::-1])
        first = np.array(self.first_mm[::-1]) + scanner_offset_mm
        affine = np.eye(4)
        if self.orientation == "LPS":
            signs, corner = np.array([-1, -1, 1]), first * [-1, -1, 1]
        else:
            last = first + steps * (np.array(self.shape[::-1]) - 1)
            signs, corner = np.array([1, 1, 1]), np.array([-last[0], -last[1], first[2]])
        affine[:3, :3] = np.diag(signs * steps)
        affine[:3, 3] = corner
        return affine


def draw_acquisition(rng: np.random.Generator, size: str, body_width_mm: float) -> Acquisition:
    """Draw the grid of one case.

    Args:
        rng: its own stream.
        size: one of ``SIZES``.
        body_width_mm: widest part of the patient; the field of view is chosen to hold it.

    Raises:
        ValueError: unknown size.
    """
    if size not in SIZES:
        raise ValueError(f"unknown phantom size {size!r}; choose one of {', '.join(SIZES)}")
    field_mm = body_width_mm * rng.uniform(1.06, 1.22)
    thick_mm = float(rng.choice([2.5, 3.0, 4.0, 5.0], p=[0.2, 0.55, 0.1, 0.15]))
    extent_mm, top_mm = rng.uniform(340, 440), rng.uniform(160, 190)
    off_center = rng.normal(0, 4, 2)
    orientation = str(rng.choice(["LPS", "RAS"]))
    noise_hu = float(rng.uniform(9, 17))
    if size == "demo":
        pixels, thick_mm = 112, 5.0
        pixel_mm = float(np.clip(field_mm / pixels, 2.8, 3.6))
        slices, top_mm = int(rng.integers(46, 53)), float(rng.uniform(146, 156))
        noise_hu *= 0.8
    else:
        pixels = 512 if size == "full" else 256
        pixel_mm = float(np.clip(field_mm / 512, 0.54, 0.98)) * 512 / pixels
        slices = int(np.clip(round(extent_mm / thick_mm), 85, 198))
    pixel_mm = round(pixel_mm, 4)
    half = pixel_mm * (pixels - 1) / 2
    first_mm = (top_mm - thick_mm * (slices - 1), float(off_center[0]) - half, float(off_center[1]) - half)
    return Acquisition((slices, pixels, pixels), (thick_mm, pixel_mm, pixel_mm), first_mm, orientation, noise_hu)


class Posture:
    """A smooth map from world to template millimetres: size, rotation, and a cubic B-spline displacement field."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.scale = np.clip(rng.normal(1, 0.045), 0.91, 1.09) * np.clip(rng.normal(1, 0.02, 3), 0.95, 1.05)
        turn = Rotation.from_euler("xyz", rng.normal(0, (1.5, 1.5, 2.5)), degrees=True).as_matrix()
        self._matrix = (np.diag(1 / self.scale) @ turn).astype(np.float32)
        shape = (3, *FIELD_KNOTS[::-1])
        broad = gaussian_filter(rng.standard_normal(shape), (0, 2.4, 2.4, 2.4), mode="wrap")
        fine = gaussian_filter(rng.standard_normal(shape), (0, 0.6, 0.6, 0.6), mode="wrap")
        self._knots = (broad / broad.std() * 4.5 + fine / fine.std() * 0.9).astype(np.float32)

    def template_mm(
        self, z_mm: FloatArray, y_mm: FloatArray, x_mm: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the template x, y and z, arrays (Z, Y, X), of the grid spanned by three world axes."""
        bases = [_spline_basis(axis, low, n) for axis, low, n in zip(
            (x_mm, y_mm, z_mm), FIELD_LOWER_MM, FIELD_KNOTS, strict=True)]  # fmt: skip
        result = []
        for axis in range(3):
            field = np.moveaxis(_along_last(np.moveaxis(self._knots[axis], 0, 2), bases[2]), 2, 0)
            field = np.swapaxes(_along_last(np.ascontiguousarray(np.swapaxes(field, 1, 2)), bases[1]), 1, 2)
            field = _along_last(np.ascontiguousarray(field), bases[0])
            row = self._matrix[axis]
            field += row[0] * x_mm
            field += (row[2] * z_mm)[:, None, None] + (row[1] * y_mm)[:, None]
            result.append(field)
        return result[0], result[1], result[2]


def draw_noise(rng: np.random.Generator, shape: tuple[int, int, int], pixel_mm: float) -> FloatArray:
    """Return noise of unit variance (Z, Y, X), correlated within slices as a soft-tissue kernel leaves it."""
    white = rng.standard_normal(shape, dtype=np.float32)
    smooth = gaussian_filter(white, (0, 0.8 / pixel_mm, 0.8 / pixel_mm), truncate=3)
    smooth /= smooth.std()
    return smooth


def _spline_basis(at_mm: FloatArray, lower_mm: float, knots: int) -> FloatArray:
    """Return the weight of each knot at each position, (knots, N)."""
    from_knot = np.abs(
        (at_mm - np.float32(lower_mm)) / np.float32(KNOT_MM) - np.arange(knots, dtype=np.float32)[:, None]
    )
    near = 2 / 3 - from_knot**2 + from_knot**3 / 2
    far = np.clip(2 - from_knot, 0, None) ** 3 / 6
    return np.where(from_knot < 1, near, far).astype(np.float32)


def _along_last(knots: FloatArray, basis: FloatArray) -> FloatArray:
    """Interpolate the last axis. Written out, as a matrix product may differ with the number of threads."""
    result = np.zeros((*knots.shape[:-1], basis.shape[1]), np.float32)
    for number, weights in enumerate(basis):
        used = np.flatnonzero(weights)
        if len(used):
            part = slice(used[0], used[-1] + 1)
            result[..., part] += knots[..., number, None] * weights[part]
    return result
