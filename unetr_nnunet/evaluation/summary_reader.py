"""The figures in nnU-Net's ``summary.json``, where there are no masks to score."""

import json
import math
from pathlib import Path
from typing import Any

from unetr_nnunet.evaluation.metric_kinds import figure_read
from unetr_nnunet.evaluation.protocols import DEFAULT_PROTOCOL
from unetr_nnunet.evaluation.summary import summarise
from unetr_nnunet.images.label_files import FILE_ENDINGS
from unetr_nnunet.nnunet.label_table import LabelTable, find_label_table, read_label_table

METRICS = ("dice", "iou", "precision", "recall", "truth_voxels", "prediction_voxels", "overlap_voxels")
LEVELS = 3
"""A ``dataset.json`` lies so many folders above ``fold_0/validation/summary.json``."""


def read_summary(path: Path) -> dict[str, Any]:
    """Read what nnU-Net found, in the form of ``metrics.json`` under nnU-Net's own protocol.

    Args:
        path: ``summary.json``; organs are named after the ``dataset.json`` beside it or above it, else BTCV's.

    Returns:
        What ``evaluate_folder`` returns, with those of `METRICS` only.

    Raises:
        ValueError: the file is no such summary, or its labels are not in the table.
    """
    table = _label_table(path.parent)
    content = load_summary(path)
    cases: dict[str, dict[str, dict[str, float]]] = {}
    files: dict[str, dict[str, str]] = {}
    for entry in content["metric_per_case"]:
        try:
            prediction = Path(entry["prediction_file"])
            case = case_of(prediction)
            if case in cases:
                raise ValueError(f"{case} stands there twice")
            cases[case] = {name: _figures(entry["metrics"][str(label)]) for name, label in table.organs.items()}
            files[case] = {"prediction": str(_nearest(prediction, path.parent)), "label": str(entry["reference_file"])}
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(
                f"{path} cannot be read: a case lacks a figure that the labels of {table.source} ask for, or holds an "
                f"impossible one ({error!r}); put the right dataset.json beside it, or score the masks"
            ) from error
    rule = DEFAULT_PROTOCOL.rule
    return {
        "predictions": str(path.parent),
        "labels": str(Path(next(iter(files.values()))["label"]).parent) if files else "",
        "label_source": table.source,
        "label_ids": table.organs,
        "ignore_label": table.ignore_label,
        "protocol": DEFAULT_PROTOCOL.description(),
        "rule": {"name": rule.name, "statement": rule.statement()},
        "metrics": list(METRICS),
        **summarise(cases, table.organs),
        "cases": cases,
        "files": files,
        "refused": {},
        "without_prediction": [],
        "without_label": [],
    }


def load_summary(path: Path) -> dict[str, Any]:
    """Return the content of a ``summary.json``, of which only the outline was checked.

    Raises:
        ValueError: it is no JSON, or no summary.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}; score the masks again, or delete it") from error
    if not isinstance(content, dict) or not isinstance(content.get("metric_per_case"), list):
        raise ValueError(f'{path} is no summary.json of nnU-Net v2: it has no list "metric_per_case"')
    return content


def case_of(path: Path) -> str:
    """Return a file's name without the ending of a label map."""
    ending = next((ending for ending in FILE_ENDINGS if path.name.endswith(ending)), path.suffix)
    return path.name.removesuffix(ending)


def _figures(metrics: dict[str, Any]) -> dict[str, float]:
    overlap, predicted, true = float(metrics["TP"]), float(metrics["n_pred"]), float(metrics["n_ref"])
    figures = {
        "dice": metrics["Dice"],
        "iou": metrics["IoU"],
        "precision": overlap / predicted if predicted else math.nan,
        "recall": overlap / true if true else math.nan,
        "truth_voxels": true,
        "prediction_voxels": predicted,
        "overlap_voxels": overlap,
    }
    return {name: figure_read(name, value) for name, value in figures.items()}


def _nearest(recorded: Path, folder: Path) -> Path:
    """Results move: the file beside the summary is meant, where there is one."""
    beside = folder / recorded.name
    return beside if beside.is_file() else recorded


def _label_table(folder: Path) -> LabelTable:
    for each in (folder, *folder.resolve().parents)[:LEVELS]:
        if (each / "dataset.json").is_file():
            return read_label_table(each / "dataset.json")
    return find_label_table(folder, folder)
