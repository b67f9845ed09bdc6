"""What the organs of the training labels have in common, learnt at training and stored in the model folder.

A prediction is compared with it, see `inference.quality`. There are many organs and several figures of each, so that
limits which one figure rarely crosses would flag nearly every case. They are therefore set by whole cases, as in
conformal prediction (Vovk et al., Algorithmic Learning in a Random World, 2005): every training case in turn is
compared with the others, and the ranges are widened until hardly one lies outside in any organ.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, TypeAdapter

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.nnunet.json_file import read_json
from unetr_nnunet.nnunet.organ_measures import OrganMeasures

FILE = "label_statistics.json"
FEWEST_CASES = 8
"""Nothing is learnt of an organ that fewer training cases have."""
NEARLY_EVERY = 0.95
"""Share of training cases from which on an organ is missed where it is empty."""
OUTSIDE_SHARE = 0.02
"""Share of training cases that may lie outside of their widened ranges; below fifty cases, none."""
BORDER_SHARE = 0.03
"""Share of training cases that may have an organ at the border that hardly another case has there."""
SAFETY_CASES = 24
"""The widening that so many training cases need is doubled, as the next case may lie further out than all of them; that
of fewer cases is raised by more, of more cases by less."""
LEAST_WIDENING = 0.25
ORDER_MARGIN = 4.0
"""An order of two organs is learnt where their mean distance is so many standard deviations."""
ORDER_LEAST_MM = 5.0
"""And where no training case has them closer."""

Figure = Literal["volume_ml", "mean_hu", "parts"]
NARROWEST: dict[Figure, float] = {"volume_ml": math.log(1.5), "mean_hu": 20.0, "parts": 1.0}
"""Ranges of figures are widened as if they had at least this width; that of volumes is the logarithm of a ratio."""
Axis = Literal["left", "back", "head"]
AXES: tuple[Axis, ...] = ("left", "back", "head")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class OrganStatistics(_Frozen):
    """One organ in the training labels.

    Attributes:
        cases: how many have it.
        at_border: in how many of them it reaches the border of the image.
        ranges: least and greatest value of each figure.
        median_hu: median of the cases' means; None where images are no CTs.
    """

    cases: int
    at_border: int
    ranges: dict[Figure, tuple[float, float]]
    median_hu: float | None


class Order(_Frozen):
    """In every training case ``first`` lies further to one end of the patient than ``second``."""

    towards: Axis
    first: str
    second: str


class TrainingStatistics(_Frozen):
    """What the training labels have in common.

    Attributes:
        cases: names of the training cases.
        organs: by name; those that no case has are left out.
        widening: by how much of its width a range is widened at both ends, for each figure.
        shifts_hu: least and greatest HU shift of a case, see `shift_hu`; None where images are no CTs.
        shift_limits_hu: the same, widened.
        border_limit: an organ at the border is flagged where at most this share of training cases has it there; None
            where organs are cut off in too many ways to tell.
        order: pairs of organs that always lie in the same order.
        flagged: how many of the training cases would be flagged if they were compared with the others.
    """

    cases: tuple[str, ...]
    organs: dict[str, OrganStatistics]
    widening: dict[Figure, float]
    shifts_hu: tuple[float, float] | None
    shift_limits_hu: tuple[float, float] | None
    border_limit: float | None
    order: tuple[Order, ...]
    flagged: int

    def limits(self, organ: str, figure: Figure) -> tuple[float, float] | None:
        """Return between which values a figure of an organ is not flagged; None where that is unknown."""
        known = self.organs.get(organ)
        if known is None or known.cases < FEWEST_CASES or figure not in known.ranges or figure not in self.widening:
            return None
        low, high = _scaled(figure, np.array(known.ranges[figure]))
        margin = self.widening[figure] * max(high - low, NARROWEST[figure])
        limits = np.array([low - margin, high + margin])
        low, high = np.exp(limits) if figure == "volume_ml" else limits
        return float(low), float(high)

    def shift_hu(self, measures: Mapping[str, OrganMeasures]) -> float | None:
        """Return the median over a case's organs of how far they are brighter than in the median training case, HU.

        One organ's HU vary with contrast medium and phase; those of all together hardly do.
        """
        medians = {organ: known.median_hu for organ, known in self.organs.items()}
        return _median_difference(measures, medians)

    def expects(self, organ: str) -> bool:
        """Whether nearly every training case has an organ."""
        known = self.organs.get(organ)
        enough = len(self.cases) >= FEWEST_CASES
        return enough and known is not None and known.cases >= NEARLY_EVERY * len(self.cases)

    def rarely_at_border(self, organ: str) -> bool:
        """Whether an organ hardly ever reaches the border of the image."""
        known = self.organs.get(organ)
        if known is None or self.border_limit is None or known.cases < FEWEST_CASES:
            return False
        return known.at_border <= self.border_limit * known.cases


def learn(cases: Mapping[str, Mapping[str, OrganMeasures]]) -> TrainingStatistics:
    """Learn what the organs of training cases have in common.

    Args:
        cases: by name, the measures of each organ that is there.
    """
    measured = list(cases.values())
    organs = list(dict.fromkeys(organ for measures in measured for organ in measures))
    widening: dict[Figure, float] = {}
    outside = np.zeros(len(measured), bool)
    for figure in NARROWEST:
        needed = _needed_widening(_table(figure, measured, organs), NARROWEST[figure])
        widening[figure] = _widening(needed)
        outside |= needed > widening[figure]
    medians = {organ: _median(measured, organ) for organ in organs}
    shifts = np.array([math.nan if (shift := _median_difference(m, medians)) is None else shift for m in measured])
    needed = _needed_widening(shifts[:, None], NARROWEST["mean_hu"])
    shift_range, shift_limits = _shift_range(shifts, _widening(needed))
    outside |= needed > _widening(needed)
    shape = len(measured), len(organs)
    present = np.reshape([[organ in measures for organ in organs] for measures in measured], shape).astype(bool)
    touching = np.reshape([[_touches(measures, organ) for organ in organs] for measures in measured], shape)
    touching = touching.astype(bool)
    border_limit, cut_off = _border_limit(touching, present)
    return TrainingStatistics(
        cases=tuple(cases),
        organs={
            organ: OrganStatistics(
                cases=int(present[:, column].sum()),
                at_border=int(touching[:, column].sum()),
                ranges=_ranges(organ, measured),
                median_hu=medians[organ],
            )
            for column, organ in enumerate(organs)
        },
        widening=widening,
        shifts_hu=shift_range,
        shift_limits_hu=shift_limits,
        border_limit=border_limit,
        order=_orders(organs, measured),
        flagged=int((outside | cut_off | _misses_an_organ(present)).sum()),
    )


def read_statistics(path: Path) -> TrainingStatistics | None:
    """Return what a file holds of training labels, such as `FILE` in a model folder; None where it is missing.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.is_file():
        return None
    return read_json(path, TypeAdapter(TrainingStatistics), "remove it, and masks are no longer compared with training")


def write_statistics(statistics: TrainingStatistics, path: Path) -> None:
    """Write the file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(statistics.model_dump_json(indent=1), encoding="utf-8")


def _scaled(figure: Figure, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.log(values) if figure == "volume_ml" else values


def _table(
    figure: Figure, cases: Sequence[Mapping[str, OrganMeasures]], organs: Sequence[str]
) -> npt.NDArray[np.float64]:
    """Return a figure by case and organ, NaN where there is none."""
    rows = [[_value(measures, organ, figure) for organ in organs] for measures in cases]
    return _scaled(figure, np.array(rows, float).reshape(len(cases), len(organs)))


def _value(measures: Mapping[str, OrganMeasures], organ: str, figure: Figure) -> float:
    value = getattr(measures[organ], figure) if organ in measures else None
    return math.nan if value is None else float(value)


def _touches(measures: Mapping[str, OrganMeasures], organ: str) -> bool:
    return organ in measures and measures[organ].at_border


def _ranges(organ: str, cases: Sequence[Mapping[str, OrganMeasures]]) -> dict[Figure, tuple[float, float]]:
    ranges: dict[Figure, tuple[float, float]] = {}
    for figure in NARROWEST:
        values = [value for measures in cases if not math.isnan(value := _value(measures, organ, figure))]
        if values:
            ranges[figure] = min(values), max(values)
    return ranges


def _needed_widening(table: npt.NDArray[np.float64], narrowest: float) -> npt.NDArray[np.float64]:
    """Return by how much of the whole width the other cases' ranges must be widened to hold each case, (cases,).

    Args:
        table: (cases, organs), NaN where there is no value.
        narrowest: least width of a range.
    """
    needed = np.zeros(len(table))
    for values in table.T:
        there = np.flatnonzero(~np.isnan(values))
        if len(there) <= FEWEST_CASES:
            continue
        width = max(float(np.ptp(values[there])), narrowest)
        for case in there:
            others = values[there[there != case]]
            low, high = others.min(), others.max()
            excess = max(low - values[case], values[case] - high, 0.0)
            needed[case] = max(needed[case], excess / width)
    return needed


def _widening(needed: npt.NDArray[np.float64]) -> float:
    """Return the widening that at most `OUTSIDE_SHARE` of the cases exceed, and more, see `SAFETY_CASES`."""
    if not len(needed):
        return LEAST_WIDENING
    safety = 1 + SAFETY_CASES / len(needed)
    rank = math.ceil((len(needed) + 1) * (1 - OUTSIDE_SHARE))
    return max(LEAST_WIDENING, safety * float(np.sort(needed)[min(rank, len(needed)) - 1]))


def _median(cases: Sequence[Mapping[str, OrganMeasures]], organ: str) -> float | None:
    values = [value for measures in cases if not math.isnan(value := _value(measures, organ, "mean_hu"))]
    return float(np.median(values)) if values else None


def _median_difference(measures: Mapping[str, OrganMeasures], medians: Mapping[str, float | None]) -> float | None:
    differences = [
        own.mean_hu - median
        for organ, own in measures.items()
        if own.mean_hu is not None and (median := medians.get(organ)) is not None
    ]
    return float(np.median(differences)) if differences else None


def _shift_range(
    shifts: npt.NDArray[np.float64], widening: float
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Return the range of all cases' shifts, and the same widened; None for both where too few have one."""
    known = shifts[~np.isnan(shifts)]
    if len(known) < FEWEST_CASES:
        return None, None
    low, high = float(known.min()), float(known.max())
    margin = widening * max(high - low, NARROWEST["mean_hu"])
    return (low, high), (low - margin, high + margin)


def _border_limit(
    touching: npt.NDArray[np.bool_], present: npt.NDArray[np.bool_]
) -> tuple[float | None, npt.NDArray[np.bool_]]:
    """Return the greatest share that flags few training cases, and which ones, (cases,)."""
    others_touching = touching.sum(0) - touching
    others_present = present.sum(0) - present
    for limit in (1 - NEARLY_EVERY, 0.0):
        rare = (others_touching <= limit * others_present) & (others_present >= FEWEST_CASES)
        flagged = (touching & rare).any(1)
        if flagged.sum() <= BORDER_SHARE * len(touching):
            return limit, flagged
    return None, np.zeros(len(touching), bool)


def _misses_an_organ(present: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which cases lack an organ that nearly all others have, (cases,)."""
    others = len(present) - 1
    if others < FEWEST_CASES:
        return np.zeros(len(present), bool)
    return (~present & (present.sum(0) - present >= NEARLY_EVERY * others)).any(1)


def _orders(organs: Sequence[str], cases: Sequence[Mapping[str, OrganMeasures]]) -> tuple[Order, ...]:
    orders = []
    for first, second in combinations(organs, 2):
        places = [
            np.subtract(there, other)
            for measures in cases
            if first in measures
            and second in measures
            and (there := measures[first].place_mm) is not None
            and (other := measures[second].place_mm) is not None
        ]
        if len(places) < FEWEST_CASES:
            continue
        for axis, distances in zip(AXES, np.array(places).T, strict=True):
            distances = distances * (sign := 1 if distances.mean() > 0 else -1)
            if distances.min() >= ORDER_LEAST_MM and distances.mean() >= ORDER_MARGIN * distances.std():
                pair = (first, second) if sign > 0 else (second, first)
                orders.append(Order(towards=axis, first=pair[0], second=pair[1]))
    return tuple(orders)
