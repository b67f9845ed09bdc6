"""Every figure of one case: what of each organ was found, how far off its surface is, and what else went wrong.

All overlaps come from one joint histogram, all surfaces and all components from one pass over each label map.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from unetr_nnunet.evaluation.absent_organs import AbsentOrganRule
from unetr_nnunet.evaluation.components import count_components
from unetr_nnunet.evaluation.overlap import LabelMap, joint_histogram, overlap_figures
from unetr_nnunet.evaluation.surface_distance import Spacing, compare_surfaces
from unetr_nnunet.evaluation.surfaces import Surface, find_surfaces
from unetr_nnunet.evaluation.swaps import find_partners, swapped_share
from unetr_nnunet.nnunet.label_table import HIGHEST_LABEL
from unetr_nnunet.organs import BACKGROUND

METRICS: tuple[str, ...] = (
    "dice",
    "iou",
    "precision",
    "recall",
    "hd95_mm",
    "assd_mm",
    "nsd",
    "volume_ml",
    "true_volume_ml",
    "volume_error_ml",
    "relative_volume_error",
    "components",
    "true_components",
    "swapped",
    "truth_voxels",
    "prediction_voxels",
    "overlap_voxels",
)
"""Names of all metrics, in the order in which ``case_metrics`` gives them."""


def case_metrics(
    truth: LabelMap,
    predicted: LabelMap,
    columns: Mapping[str, tuple[int, ...]],
    spacing_mm: Spacing,
    tolerances_mm: Mapping[str, float],
    rule: AbsentOrganRule,
    ignore_label: int | None = None,
) -> dict[str, dict[str, float]]:
    """Score one case.

    Args:
        truth: label map (Z, Y, X). Labels that are in no column count as background.
        predicted: label map on the same grid.
        columns: the labels of each column; several are merged into one structure. No label is in two columns.
        spacing_mm: voxel size along (Z, Y, X).
        tolerances_mm: by column, how far a surface may be off and still agree (see ``tolerances``).
        rule: what Dice, IoU and NSD are where truth, prediction or both do not hold the column.
        ignore_label: voxels with this label in truth count nowhere, as in nnU-Net.

    Returns:
        By column the ``METRICS``; NaN where one is undefined:

        - ``dice``, ``iou``, ``nsd``: 0..1, by the rule where a side is absent;
        - ``precision``: share of the predicted voxels that is right, NaN where nothing is predicted; ``recall``: share
          of the true voxels that is found, NaN where there are none;
        - ``hd95_mm``, ``assd_mm``: millimetres, NaN where a side is absent;
        - ``volume_ml`` (predicted), ``true_volume_ml``, ``volume_error_ml`` (predicted - true),
          ``relative_volume_error`` (of the true volume, NaN where that is 0);
        - ``components`` (of the prediction) and ``true_components``;
        - ``swapped``: share of the true voxels labelled as the partner on the other side; paired columns only;
        - ``truth_voxels``, ``prediction_voxels``, ``overlap_voxels``.

    Raises:
        ValueError: the shapes differ, there is no voxel, a label is not in 0..255, the spacing is not three positive
            numbers, or a column has no label, no tolerance, or a label of another.
    """
    _refuse_bad_settings(columns, spacing_mm, tolerances_mm)
    histogram = joint_histogram(truth, predicted, HIGHEST_LABEL)
    if ignore_label is not None and histogram[ignore_label].any():
        histogram[ignore_label] = 0
        predicted = np.where(truth == ignore_label, BACKGROUND, predicted)
    true_shapes, predicted_shapes = (_shapes(side, columns) for side in (truth, predicted))
    partners = find_partners(columns)
    scores: dict[str, dict[str, float]] = {}
    for index, (column, labels) in enumerate(columns.items()):
        figures = overlap_figures(histogram, labels, rule)
        figures |= _volumes(figures["truth_voxels"], figures["prediction_voxels"], math.prod(spacing_mm) / 1000)
        figures |= {"components": predicted_shapes[index].components, "true_components": true_shapes[index].components}
        surfaces = true_shapes[index].surface, predicted_shapes[index].surface
        if all(len(surface.voxels) for surface in surfaces):
            figures |= asdict(compare_surfaces(*surfaces, spacing_mm, tolerances_mm[column]))
        else:
            figures |= {"hd95_mm": math.nan, "assd_mm": math.nan, "nsd": figures["dice"]}
        if column in partners:
            figures["swapped"] = swapped_share(histogram, labels, columns[partners[column]])
        scores[column] = {metric: figures[metric] for metric in METRICS if metric in figures}
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
            raise ValueError(f"column {column!r} holds no label")
        tolerance = tolerances_mm.get(column, math.nan)
        if not tolerance >= 0:
            raise ValueError(f"the tolerance of {column!r} is {tolerance}; a number of at least 0 (mm) is needed")


def _volumes(true_voxels: float, predicted_voxels: float, voxel_ml: float) -> dict[str, float]:
    return {
        "volume_ml": predicted_voxels * voxel_ml,
        "true_volume_ml": true_voxels * voxel_ml,
        "volume_error_ml": (predicted_voxels - true_voxels) * voxel_ml,
        "relative_volume_error": (predicted_voxels - true_voxels) / true_voxels if true_voxels else math.nan,
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
