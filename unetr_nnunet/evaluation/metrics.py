"""What is measured: every metric with its name, title, unit, decimals, and which values are better.

A metric is registered once, as a field of `OrganFigures`. All tables (terminal, Markdown, LaTeX, HTML, and the one in
docs/reference/protocols.md) and the comparison of models take it from there. A number reads the same in all of them.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, get_type_hints

from pydantic import PlainValidator

NO_VALUE = "-"
ROUNDING = 1e-12
"""Means of equal values differ by less."""


@dataclass(frozen=True)
class Metric:
    """One kind of figure.

    Attributes:
        title: as in tables.
        meaning: in a sentence.
        where_absent: what an organ scores that truth, prediction or both lack.
        unit: empty for shares; "%" where shares are shown in per cent.
        decimals: shown.
        higher_is_better: None where neither is (volumes, counts), so that models are not compared by it.
        name: as in ``metrics.json``.
    """

    title: str
    meaning: str
    where_absent: str = "no value"
    unit: str = ""
    decimals: int = 3
    higher_is_better: bool | None = None
    name: str = ""

    @property
    def heading(self) -> str:
        """Return the title with the unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: float, *, signed: bool = False) -> str:
        """Return a value as text, without its unit."""
        return number(100 * value if self.unit == "%" else value, self.decimals, signed=signed)

    def interval(self, low: float, high: float, *, signed: bool = False) -> str:
        """Return "low to high" without unit; `NO_VALUE` where there is no interval."""
        ends = self.text(low, signed=signed), self.text(high, signed=signed)
        return NO_VALUE if NO_VALUE in ends else " to ".join(ends)

    def amount(self, value: float) -> str:
        """Return a value with its unit."""
        return f"{self.text(value)} {self.unit}".rstrip()


def number(value: float, decimals: int, *, signed: bool = False) -> str:
    """Return a number as text: `NO_VALUE` for NaN; two digits of one that would read as 0 without being 0."""
    if not math.isfinite(value):
        return NO_VALUE
    value = 0.0 if abs(value) < ROUNDING else value
    sign = "+" if signed else ""
    reads_as_zero = 0 < abs(value) < 0.5 * 10**-decimals
    return f"{value:{sign}.2g}" if reads_as_zero else f"{value:{sign}.{decimals}f}"


def p_value(p: float) -> str:
    """Return a p-value as text."""
    return "< 0.001" if p < 0.001 else number(p, 3)


def comparable(metric: str) -> Metric:
    """Return a metric that models can be compared by.

    Raises:
        ValueError: there is no such metric, or neither more nor less of it is better.
    """
    known = METRICS.get(metric)
    if known is None or known.higher_is_better is None:
        names = ", ".join(name for name, each in METRICS.items() if each.higher_is_better is not None)
        raise ValueError(f"models cannot be compared by {metric!r}; take one of {names}")
    return known


def _figure(value: object) -> float:
    """Check a figure of a file, where null stands for NaN."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise ValueError(f"{value!s:.20} is not a figure")
    return value


def _share(value: object) -> float:
    share = _figure(value)
    if not (math.isnan(share) or 0 <= share <= 1):
        raise ValueError(f"{share} is not between 0 and 1")
    return share


Figure = Annotated[float | None, PlainValidator(_figure)]
Share = Annotated[float | None, PlainValidator(_share)]
BY_RULE, COUNTED, NO_TRUTH = "by the protocol's rule", "0", "no value where truth is empty"


@dataclass(frozen=True, kw_only=True)
class OrganFigures:
    """The figures of one organ (or column of a protocol) in one case, each with the metric that it is of.

    NaN: there is no value. None: not measured, as surfaces by nnU-Net, or swaps of an organ that is not one of a pair.
    """

    dice: Annotated[
        float,
        PlainValidator(_share),
        Metric("Dice", "twice the overlap over the sum of both volumes; 1 is best", BY_RULE, higher_is_better=True),
    ]
    iou: Annotated[Share, Metric("IoU", "overlap over union; 1 is best", BY_RULE, higher_is_better=True)] = None
    precision: Annotated[
        Share,
        Metric(
            "precision",
            "share of the predicted voxels that are right",
            "no value where nothing is predicted",
            higher_is_better=True,
        ),
    ] = None
    recall: Annotated[
        Share, Metric("recall", "share of the true voxels that are found", NO_TRUTH, higher_is_better=True)
    ] = None
    hd95_mm: Annotated[
        Figure,
        Metric(
            "HD95",
            "95 % of each surface lies within this distance of the other one; 0 is best",
            unit="mm",
            decimals=2,
            higher_is_better=False,
        ),
    ] = None
    assd_mm: Annotated[
        Figure,
        Metric(
            "ASSD", "mean distance between the two surfaces; 0 is best", unit="mm", decimals=2, higher_is_better=False
        ),
    ] = None
    nsd: Annotated[
        Share,
        Metric(
            "NSD",
            "share of both surfaces within the tolerance of the other one; 1 is best",
            BY_RULE,
            higher_is_better=True,
        ),
    ] = None
    volume_ml: Annotated[Figure, Metric("volume", "predicted volume", COUNTED, "ml", 1)] = None
    true_volume_ml: Annotated[Figure, Metric("true volume", "true volume", COUNTED, "ml", 1)] = None
    volume_error_ml: Annotated[Figure, Metric("volume error", "predicted less true volume", COUNTED, "ml", 1)] = None
    relative_volume_error: Annotated[
        Figure, Metric("relative volume error", "volume error as a share of the true volume", NO_TRUTH, "%", 1)
    ] = None
    components: Annotated[
        Figure, Metric("components", "connected components of the prediction", COUNTED, decimals=1)
    ] = None
    true_components: Annotated[
        Figure, Metric("true components", "connected components of the truth", COUNTED, decimals=1)
    ] = None
    swapped: Annotated[
        Share,
        Metric(
            "swapped",
            "share of the true voxels of a paired organ that carry the label of its partner",
            f"{NO_TRUTH}, or for an organ without a partner",
            unit="%",
            decimals=1,
            higher_is_better=False,
        ),
    ] = None
    truth_voxels: Annotated[
        float, PlainValidator(_figure), Metric("true voxels", "voxels in truth", COUNTED, decimals=0)
    ]
    prediction_voxels: Annotated[
        float, PlainValidator(_figure), Metric("predicted voxels", "voxels in the prediction", COUNTED, decimals=0)
    ]
    overlap_voxels: Annotated[Figure, Metric("common voxels", "voxels in both", COUNTED, decimals=0)] = None

    def measured(self) -> dict[str, float]:
        """Return the figures that were measured, in the order of `METRICS`."""
        return {name: value for name in METRICS if (value := getattr(self, name)) is not None}

    @property
    def volume_deviation(self) -> float | None:
        """Return the relative volume error without its sign."""
        return None if self.relative_volume_error is None else abs(self.relative_volume_error)

    @property
    def extra_components(self) -> float | None:
        """Return the components of the prediction less those of the truth."""
        if self.components is None or self.true_components is None:
            return None
        return self.components - self.true_components


METRICS: dict[str, Metric] = {
    name: replace(next(part for part in kind.__metadata__ if isinstance(part, Metric)), name=name)
    for name, kind in get_type_hints(OrganFigures, include_extras=True).items()
}
"""Every metric by name, in the order in which they are written."""
DICE = METRICS["dice"]
PAGE_METRICS: tuple[Metric, ...] = (
    *(METRICS[name] for name in ("dice", "iou", "precision", "recall", "hd95_mm", "assd_mm", "nsd")),
    Metric("volume off", "volume error without its sign", NO_TRUTH, "%", 1, name="volume_deviation"),
    Metric(
        "extra components", "components of the prediction less those of the truth", decimals=1, name="extra_components"
    ),
    METRICS["swapped"],
)
"""What a report shows of every organ, as far as it was measured."""
