"""One prediction against one label file, under any number of protocols: read, check, resample where asked, score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from unetr_nnunet.evaluation.case_metrics import case_metrics
from unetr_nnunet.evaluation.overlap import LabelMap, refuse_labels_outside, unknown_labels
from unetr_nnunet.evaluation.protocols import Protocol
from unetr_nnunet.images.grid import grid_differences
from unetr_nnunet.images.label_files import read_label_map
from unetr_nnunet.images.label_resampling import resample_labels, respaced_grid
from unetr_nnunet.nnunet.label_table import HIGHEST_LABEL, LabelTable
from unetr_nnunet.organs import BACKGROUND


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
class CaseResult:
    """The figures of one case.

    Attributes:
        metrics: value by column and metric (see ``case_metrics``).
        grid: where it was scored: ``size`` and ``spacing_mm`` (Z, Y, X), ``scored_voxels`` (those not ignored).
        resampled: in words, why and how the prediction was brought to the label's grid; None where it was not.
    """

    metrics: dict[str, dict[str, float]]
    grid: dict[str, Any]
    resampled: str | None


def evaluate_case(
    prediction: Path, label: Path, table: LabelTable, wanted: Sequence[ScoredColumns], resample: bool = False
) -> list[CaseResult]:
    """Score one pair of files under each protocol.

    Args:
        prediction: file of the predicted label map.
        label: file of the true label map.
        table: the labels that may occur.
        wanted: protocols and columns.
        resample: bring a prediction on another grid to the label's, instead of refusing it.

    Raises:
        ValueError: a file cannot be read or is no label map, a label is not in the table, or the grids differ.
    """
    predicted_image, predicted = read_label_map(prediction)
    true_image, truth = read_label_map(label)
    refuse_unknown_labels(predicted, table, "prediction")
    refuse_unknown_labels(truth, table, "truth")
    return [
        _score(_Pair(prediction, predicted_image, predicted, label, true_image, truth), each, table, resample)
        for each in wanted
    ]


@dataclass(frozen=True)
class _Pair:
    prediction: Path
    predicted_image: sitk.Image
    predicted: LabelMap
    label: Path
    true_image: sitk.Image
    truth: LabelMap


def _score(pair: _Pair, wanted: ScoredColumns, table: LabelTable, resample: bool) -> CaseResult:
    spacing_mm = wanted.protocol.spacing_mm
    grid = pair.true_image if spacing_mm is None else respaced_grid(pair.true_image, spacing_mm)
    predicted, resampled = _on_grid(pair, grid, resample)
    truth = pair.truth if spacing_mm is None else resample_labels(pair.truth, pair.true_image, grid)[0]
    spacing = grid.GetSpacing()[::-1]
    metrics = case_metrics(
        truth, predicted, wanted.columns, spacing, wanted.tolerances_mm, wanted.protocol.rule, table.ignore_label
    )
    ignored = 0 if table.ignore_label is None else int(np.count_nonzero(truth == table.ignore_label))
    size = list(truth.shape)
    described = {"size": size, "spacing_mm": list(spacing), "scored_voxels": truth.size - ignored}
    return CaseResult(metrics, described, resampled)


def _on_grid(pair: _Pair, grid: sitk.Image, resample: bool) -> tuple[LabelMap, str | None]:
    """Return the prediction (Z, Y, X) on a grid, and what was done to it that nobody asked the protocol for."""
    if not grid_differences(pair.predicted_image, grid):
        return pair.predicted, None
    differences = grid_differences(pair.predicted_image, pair.true_image)
    if differences and not resample:
        raise ValueError(
            f"prediction and label lie on different grids: {'; '.join(differences)} "
            f"({pair.prediction.name}, {pair.label.name}); "
            "predict on the image that the label belongs to, or give --resample"
        )
    try:
        predicted, outside = resample_labels(pair.predicted, pair.predicted_image, grid)
    except ValueError as error:
        names = f"{pair.prediction.name} cannot be resampled to the grid of {pair.label.name}"
        raise ValueError(f"{names}: {error}") from error
    if not differences:
        return predicted, None
    return predicted, (
        f"{'; '.join(differences)}; {outside:.1%} of the grid lies outside the prediction and counts as background"
    )


def refuse_unknown_labels(labels: LabelMap, table: LabelTable, side: str) -> None:
    """Refuse a label map with labels that the table does not name.

    Args:
        labels: label map (Z, Y, X).
        table: the labels that may occur, besides background.
        side: what the label map is, for the message.

    Raises:
        ValueError: there is no voxel, or a label is not in the table.
    """
    if labels.size == 0:
        raise ValueError(f"the {side} holds no voxel")
    refuse_labels_outside(labels, side, HIGHEST_LABEL)
    counts = sum(np.bincount(plane.ravel(), minlength=HIGHEST_LABEL + 1) for plane in labels)
    known = {BACKGROUND, *table.organs.values(), *table.not_scored.values(), table.ignore_label}
    unknown = sorted(set(np.flatnonzero(counts).tolist()) - known)
    if unknown:
        raise ValueError(unknown_labels(side, unknown))
