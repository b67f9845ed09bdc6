"""Surface distances: HD95, ASSD and normalised surface Dice, in millimetres.

Two definitions of a surface are in use, and published figures need both:

- HD95 and ASSD are over surface voxels, each counted once: those of the mask with one of six neighbours outside. So do
  MONAI (``get_mask_edges``, ``compute_hausdorff_distance``, ``compute_average_surface_distance(symmetric=True)``) and
  MedPy, from which the published tables come. HD95 is the larger of the two directed 95th percentiles (L. Maier-Hein et
  al., "Metrics reloaded", Nature Methods 21, 2024); MedPy's is the percentile of both directions together, a little
  smaller. ASSD is the mean over both surfaces together.
- Normalised surface Dice (S. Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head and
  neck anatomy", arXiv:1809.04430) is over the surface's elements at the corners of the voxels, each weighted by its
  area. Its authors' package ``surface-distance`` supplies the table of areas; FLARE's scripts use the same.

A voxel at the border of the image has its surface there, under both. Distances are exact, from a k-d tree over the
surface's points, of which there are far fewer than voxels to transform; points on both surfaces are not searched for.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from surface_distance.lookup_tables import create_table_neighbour_code_to_surface_area

from unetr_nnunet.evaluation.surfaces import Places, Surface

Distances = npt.NDArray[np.float64]
Spacing = tuple[float, float, float]

ROUNDING_MM = 1e-9
"""A point this little beyond the tolerance is within it: distances carry rounding errors of that order at most."""
LEAF_POINTS = 32
"""Points in a leaf of the tree; more than SciPy's 16, because each tree answers one query only."""


@dataclass(frozen=True)
class SurfaceFigures:
    """How far two surfaces lie apart.

    Attributes:
        hd95_mm: the larger of the directed 95th percentiles.
        assd_mm: mean over the points of both surfaces.
        nsd: share of both surfaces' area that is within the tolerance of the other, 0..1.
    """

    hd95_mm: float
    assd_mm: float
    nsd: float


def compare_surfaces(truth: Surface, predicted: Surface, spacing_mm: Spacing, tolerance_mm: float) -> SurfaceFigures:
    """Measure how far two surfaces lie apart.

    Args:
        truth: a surface with at least one point.
        predicted: the other, in the same image, with at least one point.
        spacing_mm: voxel size along (Z, Y, X).
        tolerance_mm: surface elements up to this far from the other surface agree.
    """
    there, back = _distances(truth.voxels, predicted.voxels, spacing_mm)
    return SurfaceFigures(
        hd95_mm=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        assd_mm=float((there.sum() + back.sum()) / (there.size + back.size)),
        nsd=_normalised_surface_dice(truth, predicted, spacing_mm, tolerance_mm),
    )


def _normalised_surface_dice(truth: Surface, predicted: Surface, spacing_mm: Spacing, tolerance_mm: float) -> float:
    areas_mm2 = _element_areas(spacing_mm)
    agreeing = total = 0.0
    both = _distances(truth.elements, predicted.elements, spacing_mm)
    for surface, distances in zip((truth, predicted), both, strict=True):
        areas = areas_mm2[surface.codes]
        agreeing += float(areas[distances <= tolerance_mm + ROUNDING_MM].sum())
        total += float(areas.sum())
    return agreeing / total


def _distances(left: Places, right: Places, spacing_mm: Spacing) -> tuple[Distances, Distances]:
    """Return how far each left place is from the nearest right one, and the other way round, in millimetres."""
    shape = np.maximum(left.max(axis=0), right.max(axis=0)) + 1
    left_index, right_index = (np.ravel_multi_index(tuple(places.T), shape) for places in (left, right))
    apart = np.isin(left_index, right_index, assume_unique=True, invert=True)
    apart_back = np.isin(right_index, left_index, assume_unique=True, invert=True)
    return _to_nearest(left, right, apart, spacing_mm), _to_nearest(right, left, apart_back, spacing_mm)


def _to_nearest(places: Places, others: Places, apart: npt.NDArray[np.bool_], spacing_mm: Spacing) -> Distances:
    """Return distances (N,) in millimetres; only those of places ``apart`` from all others are searched for."""
    distances = np.zeros(len(places))
    if apart.any():
        tree = cKDTree(others * spacing_mm, leafsize=LEAF_POINTS, compact_nodes=False, balanced_tree=False)
        distances[apart] = tree.query(places[apart] * spacing_mm)[0]
    return distances


@lru_cache(maxsize=16)
def _element_areas(spacing_mm: Spacing) -> npt.NDArray[np.float64]:
    """Return the area in square millimetres of each neighbour code's surface element."""
    areas: npt.NDArray[np.float64] = create_table_neighbour_code_to_surface_area(spacing_mm)
    return areas
