"""What each metric is called, its unit, and which values are better."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MetricKind:
    """One metric of ``case_metrics``.

    Attributes:
        title: as shown in tables.
        unit: as shown behind a figure; empty for shares.
        higher_is_better: None where neither is (volumes, counts), so that no comparison is made.
    """

    title: str
    unit: str
    higher_is_better: bool | None


METRIC_KINDS: dict[str, MetricKind] = {
    "dice": MetricKind("Dice", "", True),
    "iou": MetricKind("IoU", "", True),
    "precision": MetricKind("precision", "", True),
    "recall": MetricKind("recall", "", True),
    "nsd": MetricKind("NSD", "", True),
    "hd95_mm": MetricKind("HD95", "mm", False),
    "assd_mm": MetricKind("ASSD", "mm", False),
    "swapped": MetricKind("left-right swaps", "", False),
    "volume_ml": MetricKind("volume", "ml", None),
    "true_volume_ml": MetricKind("true volume", "ml", None),
    "volume_error_ml": MetricKind("volume error", "ml", None),
    "relative_volume_error": MetricKind("relative volume error", "", None),
    "components": MetricKind("components", "", None),
    "true_components": MetricKind("true components", "", None),
}
SHARES = ("dice", "iou", "precision", "recall", "nsd", "swapped")
"""Metrics that lie between 0 and 1."""


def figure_read(metric: str, value: Any) -> float:
    """Return a figure of a file; None, which stands for no value, as NaN.

    Raises:
        TypeError: it is no number.
        ValueError: no case can score it.
    """
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{metric} is {value!r}, which is no number")
    if math.isinf(value) or (metric in SHARES and not math.isnan(value) and not 0 <= value <= 1):
        raise ValueError(f"{metric} is {value}, which no case can score")
    number: float = value
    return number


def is_higher_better(metric: str) -> bool:
    """Return whether more of a metric is better.

    Raises:
        ValueError: the metric is unknown, or neither more nor less of it is better.
    """
    kind = METRIC_KINDS.get(metric)
    if kind is None or kind.higher_is_better is None:
        comparable = ", ".join(name for name, each in METRIC_KINDS.items() if each.higher_is_better is not None)
        raise ValueError(f"models cannot be compared by {metric!r}; take one of {comparable}")
    return kind.higher_is_better
