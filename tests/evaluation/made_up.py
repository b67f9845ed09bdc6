"""Made-up figures, without any file."""

from typing import Any

from unetr_nnunet.evaluation.figures import CaseFigures, Evaluation
from unetr_nnunet.evaluation.metrics import OrganFigures
from unetr_nnunet.evaluation.protocols import DEFAULT_PROTOCOL


def score(dice: float, truth_voxels: int = 5, prediction_voxels: int = 5, **more: float) -> OrganFigures:
    return OrganFigures(dice=dice, truth_voxels=truth_voxels, prediction_voxels=prediction_voxels, **more)


def evaluation(cases: dict[str, dict[str, OrganFigures]], *columns: str, **more: Any) -> Evaluation:
    fields: dict[str, Any] = {
        "predictions": "masks",
        "labels": "labels",
        "label_source": "a test",
        "label_ids": {column: label for label, column in enumerate(columns, 1)},
        "ignore_label": None,
        "protocol": DEFAULT_PROTOCOL.description(),
        "columns": columns,
        "cases": {name: CaseFigures(organs) for name, organs in cases.items()},
    }
    return Evaluation(**(fields | more))
