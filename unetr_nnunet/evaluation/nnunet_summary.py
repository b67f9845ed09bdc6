"""``summary.json`` as nnU-Net v2 writes it, for its tools and for those that read it.

Layout and means: nnU-Net v2 ``evaluation/evaluate_predictions.py`` (``compute_metrics_on_folder``). Values that are not
defined are written as ``NaN``, as nnU-Net does, although JSON knows no such word.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.evaluation.protocols import DEFAULT_PROTOCOL

WRITER = "unetr_nnunet"


def offer_nnunet_summary(evaluation: dict[str, Any], path: Path) -> bool:
    """Write ``summary.json`` unless nnU-Net wrote one there, or it would not be the one nnU-Net would write.

    nnU-Net takes a file that is there for that of the whole folder. So one is written under its own protocol only, and
    only where every prediction and label was scored, on its own grid.

    Args:
        evaluation: content of ``metrics.json``.
        path: the file.

    Returns:
        Whether it was written.
    """
    if evaluation["protocol"]["name"] != DEFAULT_PROTOCOL.name or not _is_ours_or_absent(path):
        return False
    if any(evaluation[part] for part in ("refused", "without_label", "resampled", "not_scored")):
        path.unlink(missing_ok=True)  # of an earlier run: no longer true
        return False
    with atomic_path(path) as temporary:
        text = json.dumps(nnunet_summary(evaluation), indent=4, sort_keys=True)
        temporary.write_text(text + "\n", encoding="utf-8")
    return True


def _is_ours_or_absent(path: Path) -> bool:
    if not path.exists():
        return True
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("written_by") == WRITER
    except (ValueError, AttributeError):
        return False


def nnunet_summary(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return the content of ``summary.json``.

    Args:
        evaluation: content of ``metrics.json`` under nnU-Net's protocol.
    """
    labels = evaluation["label_ids"]
    cases = [
        {
            "prediction_file": evaluation["files"][case]["prediction"],
            "reference_file": evaluation["files"][case]["label"],
            "metrics": {
                str(labels[organ]): _nnunet_metrics(metrics, evaluation["grids"][case]["scored_voxels"])
                for organ, metrics in organs.items()
            },
        }
        for case, organs in evaluation["cases"].items()
    ]
    names = ("Dice", "IoU", "FP", "TP", "FN", "TN", "n_pred", "n_ref")
    means = {
        str(label): {name: _nan_mean(case["metrics"][str(label)][name] for case in cases) for name in names}
        for label in labels.values()
    }
    foreground = {name: fmean(mean[name] for mean in means.values()) for name in names}
    return {"metric_per_case": cases, "mean": means, "foreground_mean": foreground, "written_by": WRITER}


def _nnunet_metrics(metrics: dict[str, float], scored_voxels: int) -> dict[str, float]:
    predicted, true = int(metrics["prediction_voxels"]), int(metrics["truth_voxels"])
    overlap = int(metrics["overlap_voxels"])
    union = predicted + true - overlap
    return {
        "Dice": 2 * overlap / (predicted + true) if union else math.nan,
        "IoU": overlap / union if union else math.nan,
        "FP": predicted - overlap,
        "TP": overlap,
        "FN": true - overlap,
        "TN": scored_voxels - union,
        "n_pred": predicted,
        "n_ref": true,
    }


def _nan_mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan
