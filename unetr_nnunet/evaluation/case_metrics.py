"""Compute every metric of one case: overlap, surface distances, volumes, components and left-right swaps.

All overlaps come from one joint histogram, all surfaces and all components from one pass over each label map.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final

import cc3d
import numpy as np
import numpy.typing as npt

from unetr_nnunet.evaluation.metrics import OrganFigures
from unetr_nnunet.evaluation.overlap import LabelMap, find_partners, joint_histogram, overlap_figures, swapped_share
from unetr_nnunet.evaluation.protocols import AbsentOrganRule
from unetr_nnunet.evaluation.surface_distance import Spacing, compare_surfaces
from unetr_nnunet.evaluation.surfaces import Surface, find_surfaces
from unetr_nnunet.nnunet.label_table import HIGHEST_LABEL
from unetr_nnunet.organs import BACKGROUND

CONNECTIVITY: Final = 26
"""Voxels that share a corner belong together, as where nnU-Net's post-processing keeps the largest component."""


def case_metrics(
    truth: LabelMap,
    predicted: LabelMap,
    columns: Mapping[str, tuple[int, ...]],
    spacing_mm: Spacing,
    tolerances_mm: Mapping[str, float],
    rule: AbsentOrganRule,
    ignore_label: int | None = None,
) -> dict[str, OrganFigures]:
    """Score one case.

    Args:
        truth: label map (Z, Y, X). Labels that are in no column count as background.
        predicted: label map on the same grid.
        columns: the labels of each column; several are merged into one structure. No label is in two columns.
        spacing_mm: voxel size along (Z, Y, X).
        tolerances_mm: by column, how far a surface may be off and still agree (see ``tolerances_mm``).
        rule: what Dice, IoU and NSD are where truth, prediction or both do not hold the column.
        ignore_label: voxels with this label in truth count nowhere, as in nnU-Net.

    Returns:
        The figures of each column.

    Raises:
        ValueError: the shapes differ, there is no voxel, a label is not in 0..255, the spacing is not three positive
            numbers, or a column has no label, no tolerance, or a label of another.
    """
    _refuse_bad_settings(columns, spacing_mm, tolerances_mm)
    histogram = joint_histogram(truth, predicted, HIGHEST_LABEL)
    if ignore_label is not None and histogram[ignore_label].any():
        histogram[ignore_label] = 0
        predicted = np.where(truth == ignore_label, BACKGROUND, predicted)
    shapes = [_shapes(side, columns) for side in (truth, predicted)]
    partners = find_partners(columns)
    scores = {}
    for (column, labels), true_shape, predicted_shape in zip(columns.items(), *shapes, strict=True):
        figures = overlap_figures(histogram, labels, rule)
        surfaces = true_shape.surface, predicted_shape.surface
        if all(len(surface.voxels) for surface in surfaces):
            distances = asdict(compare_surfaces(*surfaces, spacing_mm, tolerances_mm[column]))
        else:
            distances = {"hd95_mm": math.nan, "assd_mm": math.nan, "nsd": figures.dice}
        scores[column] = replace(
            figures,
            **distances,
            **_volumes(figures, math.prod(spacing_mm) / 1000),
            components=predicted_shape.components,
            true_components=true_shape.components,
            swapped=swapped_share(histogram, labels, columns[partners[column]]) if column in partners else None,
        )
    return scores


def _refuse_bad_settings(
    columns: Mapping[str, tuple[int, ...]], spacing_mm: Spacing, tolerances_mm: Mapping[str, float]
) -> None:
    if len(spacing_mm) != 3 or not all(math.isfinite(size) and size > 0 for size in spacing_mm):
        raise ValueError(f"the spacing is {spacing_mm}; three positive numbers (mm) are needed")
    labels = [label for merged in columns.values() for label in merged]
    if len(set(labels)) < len(labels):
        raise ValueError(f"a label is in two columns: {dict(columns)}; a voxel can count in one only")
    for column, merged in columns.items():
        if not merged:
            raise ValueError(f"column {column!r} has no label")
        tolerance = tolerances_mm.get(column, math.nan)
        if not tolerance >= 0:
            raise ValueError(f"the tolerance of {column!r} is {tolerance}; a number of at least 0 (mm) is needed")


def _volumes(figures: OrganFigures, voxel_ml: float) -> dict[str, float]:
    true, error = figures.truth_voxels, figures.prediction_voxels - figures.truth_voxels
    return {
        "volume_ml": figures.prediction_voxels * voxel_ml,
        "true_volume_ml": true * voxel_ml,
        "volume_error_ml": error * voxel_ml,
        "relative_volume_error": error / true if true else math.nan,
    }


@dataclass(frozen=True)
class _Shape:
    """One column of one label map: its surface and its number of components."""

    surface: Surface
    components: int


def _shapes(label_map: LabelMap, columns: Mapping[str, tuple[int, ...]]) -> list[_Shape]:
    """Return the shape of each column in a label map (Z, Y, X)."""
    numbers = np.zeros(HIGHEST_LABEL + 1, np.uint8)  # of each label's column, from 1 on; 0 for no column
    for number, labels in enumerate(columns.values(), start=1):
        numbers[list(labels)] = number
    box = _bounding_box(label_map)
    corner = [part.start for part in box]
    column_map = numbers[label_map[box]]
    surfaces = find_surfaces(column_map, len(columns))
    counts = count_components(column_map, len(columns))
    return [
        _Shape(Surface(surface.voxels + corner, surface.elements + corner, surface.codes), count)
        for surface, count in zip(surfaces, counts, strict=True)
    ]


def _bounding_box(label_map: LabelMap) -> tuple[slice, ...]:
    """Return the smallest part of a label map (Z, Y, X) outside which all is background."""
    plane = np.any(label_map, axis=0)
    used = (np.any(label_map, axis=(1, 2)), np.any(plane, axis=1), np.any(plane, axis=0))
    places = [np.flatnonzero(along) for along in used]
    return tuple(slice(int(at[0]), int(at[-1]) + 1) if at.size else slice(0, 0) for at in places)


def count_components(label_map: npt.NDArray[np.integer], highest_label: int) -> list[int]:
    """Return the number of connected components of each label from 1 on.

    Args:
        label_map: (Z, Y, X), 0 is background.
        highest_label: the last label counted, at least the largest in the label map.
    """
    pieces, number = cc3d.connected_components(label_map, connectivity=CONNECTIVITY, return_N=True)
    label_of = np.zeros(number + 1, label_map.dtype)
    label_of[pieces.ravel()] = label_map.ravel()
    counts: list[int] = np.bincount(label_of[1:], minlength=highest_label + 1)[1:].tolist()
    return counts
