"""``summary.json``, which nnU-Net v2 writes after scoring a folder of predictions.

Layout: nnU-Net v2 ``evaluation/evaluate_predictions.py`` (``compute_metrics_on_folder``). Undefined figures are written
as ``NaN``, which JSON does not have.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, TypeAdapter

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.nnunet.json_file import read_json

FILE_NAME = "summary.json"


def _check_share(value: float) -> float:
    if not (math.isnan(value) or 0 <= value <= 1):
        raise ValueError(f"{value} is not between 0 and 1")
    return value


Share = Annotated[float, AfterValidator(_check_share)]
Count = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class LabelFigures:
    """Figures of one label, in one case or as mean over cases, under nnU-Net's own names.

    Attributes:
        Dice: NaN where the label is absent from both truth and prediction.
        IoU: as ``Dice``.
        FP: voxels.
        TP: voxels.
        FN: voxels.
        TN: voxels.
        n_pred: voxels predicted.
        n_ref: voxels in the truth.
    """

    Dice: Share
    IoU: Share
    FP: Count
    TP: Count
    FN: Count
    TN: Count
    n_pred: Count
    n_ref: Count


@dataclass(frozen=True)
class SummaryCase:
    """One case.

    Attributes:
        prediction_file: where it was when it was scored.
        reference_file: the true label map.
        metrics: by label ("1") or region ("(1, 2)").
    """

    prediction_file: str
    reference_file: str
    metrics: Mapping[str, LabelFigures]


@dataclass(frozen=True)
class Summary:
    """A scored folder.

    Attributes:
        metric_per_case: the cases.
        written_by: None in files of nnU-Net's own.
    """

    metric_per_case: list[SummaryCase]
    written_by: str | None = None


def read_summary(path: Path) -> Summary:
    """Read the cases of a summary; the means in it are for nnU-Net's own tools.

    Raises:
        ValueError: it is damaged, or not a summary of nnU-Net v2.
    """
    return read_json(path, TypeAdapter(Summary), "score the masks again, or delete it")


def write_summary(
    summary: Summary, mean: Mapping[str, LabelFigures], foreground_mean: LabelFigures, path: Path
) -> None:
    """Write a summary, whole or not at all.

    Args:
        summary: the cases.
        mean: over cases, by label.
        foreground_mean: over labels.
        path: the file.
    """
    means = {"mean": {label: asdict(figures) for label, figures in mean.items()}}
    content = asdict(summary) | means | {"foreground_mean": asdict(foreground_mean)}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=4, sort_keys=True) + "\n", encoding="utf-8")
