"""Score one predicted label map against the true one: read, check, resample on request, measure."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from unetr_nnunet.evaluation.case_metrics import case_metrics
from unetr_nnunet.evaluation.figures import CaseFigures, Grid
from unetr_nnunet.evaluation.overlap import LabelMap, refuse_labels_outside, unknown_labels
from unetr_nnunet.evaluation.protocols import Protocol
from unetr_nnunet.images.grid import grid_differences, grid_note
from unetr_nnunet.images.label_maps import read_label_map, resample_labels, respaced_grid
from unetr_nnunet.nnunet.label_table import HIGHEST_LABEL, LabelTable
from unetr_nnunet.organs import BACKGROUND

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoredColumns:
    """A protocol, applied to one data set.

    Attributes:
        protocol: rule and grid.
        columns: labels joined in each column.
        tolerances_mm: surface distance that counts as no error, by column.
    """

    protocol: Protocol
    columns: Mapping[str, tuple[int, ...]]
    tolerances_mm: Mapping[str, float]


@dataclass(frozen=True)
class _Side:
    file: Path
    image: sitk.Image
    labels: LabelMap


def evaluate_case(
    prediction: Path, label: Path, table: LabelTable, scored: Sequence[ScoredColumns], resample: bool = False
) -> list[CaseFigures]:
    """Score one pair of files under each protocol.

    Args:
        prediction: file of the predicted label map.
        label: file of the true label map.
        table: the labels that may occur.
        scored: protocols and columns.
        resample: bring a prediction on another grid to the label's, instead of refusing it.

    Raises:
        ValueError: a file cannot be read or is not a label map, a label is not in the table, or the grids differ.
    """
    predicted, true = (_Side(path, *read_label_map(path)) for path in (prediction, label))
    refuse_unknown_labels(predicted.labels, table, "prediction")
    refuse_unknown_labels(true.labels, table, "truth")
    if note := grid_note(predicted.image, true.image, "its label"):
        _logger.warning("%s %s", prediction, note)
    return [_score(predicted, true, columns, table, resample) for columns in scored]


def _score(predicted: _Side, true: _Side, scored: ScoredColumns, table: LabelTable, resample: bool) -> CaseFigures:
    spacing_mm = scored.protocol.spacing_mm
    grid = true.image if spacing_mm is None else respaced_grid(true.image, spacing_mm)
    prediction, resampled = _on_grid(predicted, true, grid, resample)
    truth = true.labels if spacing_mm is None else resample_labels(true.labels, true.image, grid)[0]
    spacing = grid.GetSpacing()[::-1]
    organs = case_metrics(
        truth, prediction, scored.columns, spacing, scored.tolerances_mm, scored.protocol.rule, table.ignore_label
    )
    ignored = 0 if table.ignore_label is None else int(np.count_nonzero(truth == table.ignore_label))
    described = Grid(list(truth.shape), list(spacing), truth.size - ignored)
    return CaseFigures(organs, str(predicted.file.absolute()), str(true.file.absolute()), described, resampled)


def _on_grid(predicted: _Side, true: _Side, grid: sitk.Image, resample: bool) -> tuple[LabelMap, str | None]:
    """Return the prediction (Z, Y, X) on a grid, and what was done to it beyond what the protocol asks for."""
    if not grid_differences(predicted.image, grid):
        return predicted.labels, None
    differences = grid_differences(predicted.image, true.image)
    if differences and not resample:
        raise ValueError(
            f"prediction and label lie on different grids: {'; '.join(differences)} "
            f"({predicted.file.name}, {true.file.name}); "
            "predict on the image that the label belongs to, or give --resample"
        )
    try:
        labels, outside = resample_labels(predicted.labels, predicted.image, grid)
    except ValueError as error:
        names = f"{predicted.file.name} cannot be resampled to the grid of {true.file.name}"
        raise ValueError(f"{names}: {error}") from error
    if not differences:
        return labels, None
    return labels, (
        f"{'; '.join(differences)}; {outside:.1%} of the grid lies outside the prediction and counts as background"
    )


def refuse_unknown_labels(labels: LabelMap, table: LabelTable, side: str) -> None:
    """Refuse a label map with labels that the table does not name.

    Args:
        labels: label map (Z, Y, X).
        table: the labels that may occur, besides background.
        side: what the label map is, for the message.

    Raises:
        ValueError: there are no voxels, or a label is not in the table.
    """
    if labels.size == 0:
        raise ValueError(f"the {side} has no voxels")
    refuse_labels_outside(labels, side, HIGHEST_LABEL)
    counts = sum(np.bincount(plane.ravel(), minlength=HIGHEST_LABEL + 1) for plane in labels)
    named = {BACKGROUND, *table.organs.values(), *table.not_scored.values(), table.ignore_label}
    unknown = sorted(set(np.flatnonzero(counts).tolist()) - named)
    if unknown:
        raise ValueError(unknown_labels(side, unknown))
