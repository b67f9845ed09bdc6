"""Where the voxels of a volume lie: one description, one comparison, one rule for small errors.

Axes that are nearly at right angles, as headers with rounded numbers say them, are made so and that is noted; what is
further off is refused. World coordinates are ITK's (x to the patient's left, y to the back, z to the head: LPS);
NIfTI's are RAS.
"""

import itertools
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

LPS_TO_RAS = np.diag((-1.0, -1.0, 1.0, 1.0))
"""Between the world axes of ITK and DICOM and those of NIfTI, in both directions."""
ORTHONORMAL_WITHIN = 0.02
"""Largest entry of D^T D - I that is mended: two decimals of a direction cosine, or a shear of 1.1 degrees."""
SAID_BEYOND = 1e-4
"""Likewise, differences too small to mention: float32 rounding is smaller."""
SAID_BEYOND_MM = 0.1
_LARGEST_EXTENT_MM = 3000.0
_SMALLEST_SPACING_MM = 0.01
_NOTES, _OWN_DIRECTION = "unetr_nnunet_notes", "unetr_nnunet_own_direction"


class GeometryError(ValueError):
    """A geometry that cannot be used.

    Args:
        fact: what is wrong, to follow the name of a file.
        remedy: what to do about it.
    """

    def __init__(self, fact: str, remedy: str) -> None:
        super().__init__(f"{fact}; {remedy}")
        self.fact, self.remedy = fact, remedy


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxels of a 3-D volume in space.

    Attributes:
        size: voxels along x, y, z.
        spacing_mm: distance of neighbouring voxels along x, y, z.
        origin_mm: place of the first voxel in LPS.
        direction: (3, 3), the axes x, y, z as columns in LPS; unit vectors at right angles, once `mended`.
    """

    size: tuple[int, ...]
    spacing_mm: npt.NDArray[np.float64]
    origin_mm: npt.NDArray[np.float64]
    direction: npt.NDArray[np.float64]

    @classmethod
    def of(cls, image: sitk.Image) -> "Grid":
        """Return the grid of a 3-D image."""
        direction = np.reshape(image.GetDirection(), (3, 3))
        return cls(image.GetSize(), np.array(image.GetSpacing()), np.array(image.GetOrigin()), direction)

    @classmethod
    def of_ras(cls, size: tuple[int, ...], spacing_mm: npt.ArrayLike, affine: npt.NDArray[np.float64]) -> "Grid":
        """Return the grid of a NIfTI file's affine (4, 4), which takes voxels x, y, z to RAS."""
        lps = np.diag(LPS_TO_RAS)[:, None] * affine  # no sum, which infinity would turn into NaN
        spacing = np.asarray(spacing_mm, np.float64)
        return cls(size, spacing, lps[:3, 3], lps[:3, :3] / spacing)

    def affine(self) -> npt.NDArray[np.float64]:
        """Return the matrix (4, 4) that takes voxels x, y, z to LPS."""
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = self.direction * self.spacing_mm, self.origin_mm
        return affine

    def corners_mm(self) -> npt.NDArray[np.float64]:
        """Return the centres of the eight voxels at the corners, (8, 3) in LPS."""
        corners = np.array(list(itertools.product(*((0, length - 1) for length in self.size))))
        return np.asarray((corners * self.spacing_mm) @ self.direction.T + self.origin_mm)

    def mended(self) -> tuple["Grid", str]:
        """Return the grid with axes at right angles, and a note on what that took, "" for next to nothing.

        Raises:
            GeometryError: spacing, extent, origin or direction are not those of a scan.
        """
        self._refuse_wrong_numbers()
        off = float(np.abs(self.direction.T @ self.direction - np.eye(3)).max())
        if not off <= ORTHONORMAL_WITHIN:
            fact = (
                f"has a direction matrix that is not orthonormal (off by {off:.3g}, up to {ORTHONORMAL_WITHIN} is "
                "mended): its axes are not at right angles, or its voxel size is wrong"
            )
            raise GeometryError(fact, "resample it to an upright grid, or correct its header")
        if off <= SAID_BEYOND:
            return self, ""
        left, _, right = np.linalg.svd(self.direction)
        grid = replace(self, direction=left @ right)  # the nearest orthonormal matrix (Schoenemann 1966)
        return grid, (
            f"its axes are not exactly at right angles (off by {off:.2g}); the nearest right angles are used, which "
            f"moves its corners by up to {distance_mm(self, grid):.2g} mm"
        )

    def _refuse_wrong_numbers(self) -> None:
        spacing = tuple(map(float, self.spacing_mm))
        if not (np.isfinite(spacing).all() and min(spacing) >= _SMALLEST_SPACING_MM):
            fact = f"has spacing {spacing} mm; each must be {_SMALLEST_SPACING_MM} mm at least"
            raise GeometryError(fact, "correct its spacing")
        extent_mm = self.spacing_mm * self.size
        if extent_mm.max() > _LARGEST_EXTENT_MM:
            sides = " x ".join(f"{side:.0f}" for side in extent_mm)
            raise GeometryError(f"is {sides} mm large, more than any scanner's table", "correct its spacing")
        if not np.isfinite(self.origin_mm).all():
            raise GeometryError(f"has origin {tuple(self.origin_mm)} mm", "correct it, it must be finite")


def place(image: sitk.Image, grid: Grid, notes: list[str]) -> None:
    """Put an image where a grid says, mended, and let it carry the notes and the direction that its file gave.

    Raises:
        GeometryError: see `Grid.mended`.
    """
    mended, note = grid.mended()
    image.SetSpacing(mended.spacing_mm.tolist())
    image.SetOrigin(mended.origin_mm.tolist())
    image.SetDirection(mended.direction.ravel().tolist())
    if note:
        image.SetMetaData(_OWN_DIRECTION, json.dumps(grid.direction.ravel().tolist()))
        notes = [*notes, note]
    add_notes(image, notes)


def add_notes(image: sitk.Image, notes: list[str]) -> None:
    """Let an image carry notes on how it was read."""
    if notes:
        image.SetMetaData(_NOTES, "\n".join([*notes_of(image), *notes]))


def notes_of(image: sitk.Image) -> list[str]:
    """Return what had to be mended or assumed to read an image."""
    return image.GetMetaData(_NOTES).splitlines() if image.HasMetaDataKey(_NOTES) else []


def own_grid(image: sitk.Image) -> Grid:
    """Return the grid of an image as its file described it, before it was mended."""
    grid = Grid.of(image)
    if not image.HasMetaDataKey(_OWN_DIRECTION):
        return grid
    return replace(grid, direction=np.reshape(json.loads(image.GetMetaData(_OWN_DIRECTION)), (3, 3)))


def copy_place(image: sitk.Image, original: sitk.Image) -> None:
    """Put an image where another one of its size lies; files written of the two have one geometry."""
    image.CopyInformation(original)
    if original.HasMetaDataKey(_OWN_DIRECTION):
        image.SetMetaData(_OWN_DIRECTION, original.GetMetaData(_OWN_DIRECTION))


def distance_mm(one: Grid, other: Grid) -> float:
    """Return how far apart the corners of two grids of one size lie at most."""
    return float(np.linalg.norm(one.corners_mm() - other.corners_mm(), axis=1).max())


def tolerance_mm(grid: Grid) -> float:
    """Return half of the smallest side of a voxel.

    Between grids of one size that lie closer, each voxel's nearest neighbour is the voxel of the same index.
    """
    return float(grid.spacing_mm.min()) / 2


def grid_differences(one: sitk.Image | Grid, other: sitk.Image | Grid) -> list[str]:
    """Say how two grids differ, if in size or by half a voxel or more; an empty list where they are the same.

    Args:
        one: an image or its grid.
        other: the one it should lie on; the smaller voxel of both counts.
    """
    grid, reference = _grid(one), _grid(other)
    if grid.size != reference.size:
        return [f"size {grid.size} against {reference.size} voxels (x, y, z)"]
    off_mm, limit_mm = distance_mm(grid, reference), min(tolerance_mm(grid), tolerance_mm(reference))
    if off_mm < limit_mm:
        return []
    facts = [
        f"{what} {_listed(left)} against {_listed(right)} {unit}".rstrip()
        for what, unit, left, right in (
            ("spacing", "mm", grid.spacing_mm, reference.spacing_mm),
            ("origin", "mm", grid.origin_mm, reference.origin_mm),
            ("direction", "", grid.direction, reference.direction),
        )
        if not np.allclose(left, right, rtol=0, atol=1e-3)
    ]
    return [*facts, f"corners up to {off_mm:.3g} mm apart, less than half a voxel ({limit_mm:.3g} mm) would do"]


def grid_note(one: sitk.Image | Grid, other: sitk.Image | Grid, name: str) -> str:
    """Return a note on two grids that count as the same though they are not quite; "" where nothing needs saying.

    Args:
        one: an image or its grid, what the note is about.
        other: the one it should lie on.
        name: of the latter.
    """
    if grid_differences(one, other):
        return ""
    off_mm = distance_mm(_grid(one), _grid(other))
    if off_mm <= SAID_BEYOND_MM:
        return ""
    return f"lies up to {off_mm:.2g} mm beside {name}, less than half a voxel; taken as the same grid"


def _grid(image: sitk.Image | Grid) -> Grid:
    return image if isinstance(image, Grid) else Grid.of(image)


def _listed(values: npt.NDArray[Any]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values.ravel()) + ")"
