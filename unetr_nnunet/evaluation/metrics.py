"""The metrics: name, title, unit, decimals, what an absent organ scores, and which values are better.

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
        best: `HIGHER` or `LOWER` values; None for neither (volumes, counts), so that models are not compared by it.
        name: as in ``metrics.json``.
    """

    title: str
    meaning: str
    where_absent: str
    unit: str = ""
    decimals: int = 3
    best: bool | None = None
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
    if known is None or known.best is None:
        names = ", ".join(name for name, metric in METRICS.items() if metric.best is not None)
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
NeededFigure = Annotated[float, PlainValidator(_figure)]
NeededShare = Annotated[float, PlainValidator(_share)]
HIGHER, LOWER = True, False
BY_RULE, COUNTED, UNDEFINED, NO_TRUTH = "by the protocol's rule", "0", "no value", "no value where truth is empty"


@dataclass(frozen=True, kw_only=True)
class OrganFigures:
    """The figures of one organ (or column of a protocol) in one case, each with the metric that it is of.

    NaN: there is no value. None: not measured, as surfaces by nnU-Net, or swaps of an organ that is not one of a pair.
    """

    dice: Annotated[
        NeededShare, Metric("Dice", "twice the overlap over the sum of both volumes; 1 is best", BY_RULE, best=HIGHER)
    ]
    iou: Annotated[Share, Metric("IoU", "overlap over union; 1 is best", BY_RULE, best=HIGHER)] = None
    precision: Annotated[
        Share, Metric("precision", "share of the prediction that is right", "no value without prediction", best=HIGHER)
    ] = None
    recall: Annotated[Share, Metric("recall", "share of the truth that is found", NO_TRUTH, best=HIGHER)] = None
    hd95_mm: Annotated[
        Figure,
        Metric("HD95", "95 % of each surface lies this close to the other one; 0 is best", UNDEFINED, "mm", 2, LOWER),
    ] = None
    assd_mm: Annotated[
        Figure, Metric("ASSD", "mean distance between the two surfaces; 0 is best", UNDEFINED, "mm", 2, LOWER)
    ] = None
    nsd: Annotated[
        Share,
        Metric("NSD", "share of both surfaces within the tolerance of the other one; 1 is best", BY_RULE, best=HIGHER),
    ] = None
    volume_ml: Annotated[Figure, Metric("volume", "predicted volume", COUNTED, "ml", 1)] = None
    true_volume_ml: Annotated[Figure, Metric("true volume", "true volume", COUNTED, "ml", 1)] = None
    volume_error_ml: Annotated[Figure, Metric("volume error", "predicted less true volume", COUNTED, "ml", 1)] = None
    relative_volume_error: Annotated[
        Figure, Metric("relative volume error", "volume error as a share of the true volume", NO_TRUTH, "%", 1)
    ] = None
    components: Annotated[Figure, Metric("components", "connected parts of the prediction", COUNTED, "", 1)] = None
    true_components: Annotated[Figure, Metric("true components", "connected parts of the truth", COUNTED, "", 1)] = None
    swapped: Annotated[
        Share, Metric("swapped", "true voxels of a paired organ with the label of its partner", NO_TRUTH, "%", 1, LOWER)
    ] = None
    truth_voxels: Annotated[NeededFigure, Metric("true voxels", "voxels in truth", COUNTED, "", 0)]
    prediction_voxels: Annotated[NeededFigure, Metric("predicted voxels", "voxels in the prediction", COUNTED, "", 0)]
    overlap_voxels: Annotated[Figure, Metric("common voxels", "voxels in both", COUNTED, "", 0)] = None

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
    Metric(
        "volume off",
        "volume error in per cent of the true volume, without its sign",
        NO_TRUTH,
        "%",
        1,
        name="volume_deviation",
    ),
    Metric("extra components", "components of the prediction less true ones", COUNTED, "", 1, name="extra_components"),
    METRICS["swapped"],
)
"""What a report shows of every organ, as far as it was measured."""
