"""Learn from the training labels what a prediction is compared with, see `inference.quality`.

There are many organs and several figures of each, so that limits which one figure rarely crosses would flag nearly
every case. They are therefore set by whole cases, as in conformal prediction (Vovk et al., Algorithmic Learning in a
Random World, 2005): every training case in turn is compared with the others, and the ranges are widened until hardly
one lies outside in any organ.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from unetr_nnunet.nnunet.label_statistics import (
    AXES,
    FEWEST_CASES,
    NARROWEST,
    NEARLY_EVERY,
    Figure,
    Order,
    OrganStatistics,
    TrainingStatistics,
    median_difference,
    scaled,
)
from unetr_nnunet.nnunet.organ_measures import OrganMeasures

OUTSIDE_SHARE = 0.02
"""Share of training cases that may lie outside of their widened ranges; below fifty cases, none."""
BORDER_SHARE = 0.03
"""Share of training cases that may have an organ at the border that hardly another case has there."""
SAFETY_CASES = 24
"""The widening that so many training cases need is doubled, as the next case may lie further out than all of them; that
of fewer cases is raised by more, of more cases by less."""
LEAST_WIDENING = 0.25
NEAR_BORDER_MM = 10.0
"""An organ that comes so near to the border in training may touch it in a prediction without a flag."""
SIDES = 6
ORDER_MARGIN = 4.0
"""An order of two organs is learnt where their mean distance is so many standard deviations."""
ORDER_LEAST_MM = 5.0
"""And where no training case has them closer."""


def digest(names: Iterable[str]) -> str:
    """Return what tells whether statistics are of the same cases, without their names."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


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
    shifts = np.array([math.nan if (shift := median_difference(m, medians)) is None else shift for m in measured])
    needed = _needed_widening(shifts[:, None], NARROWEST["mean_hu"])
    shift_range, shift_limits = _shift_range(shifts, _widening(needed))
    outside |= needed > _widening(needed)
    border_mm = np.reshape(
        [[_border_mm(measures, organ) for organ in organs] for measures in measured],
        (len(measured), len(organs), SIDES),
    )
    present, near = ~np.isnan(border_mm[:, :, 0]), border_mm <= NEAR_BORDER_MM
    border_limit, cut_off = _border_limit(border_mm == 0, near, present)
    return TrainingStatistics(
        cases=len(cases),
        names_digest=digest(cases),
        organs={
            organ: OrganStatistics(
                cases=int(present[:, column].sum()),
                near_border=tuple(near[:, column].sum(0).tolist()),
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


def _table(
    figure: Figure, cases: Sequence[Mapping[str, OrganMeasures]], organs: Sequence[str]
) -> npt.NDArray[np.float64]:
    """Return a figure by case and organ, NaN where there is none."""
    rows = [[_value(measures, organ, figure) for organ in organs] for measures in cases]
    return scaled(figure, np.array(rows, float).reshape(len(cases), len(organs)))


def _value(measures: Mapping[str, OrganMeasures], organ: str, figure: Figure) -> float:
    value = getattr(measures[organ], figure) if organ in measures else None
    return math.nan if value is None else float(value)


def _border_mm(measures: Mapping[str, OrganMeasures], organ: str) -> tuple[float, ...]:
    return measures[organ].border_mm if organ in measures else (math.nan,) * SIDES


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
    touching: npt.NDArray[np.bool_], near: npt.NDArray[np.bool_], present: npt.NDArray[np.bool_]
) -> tuple[float | None, npt.NDArray[np.bool_]]:
    """Return the greatest share that flags few training cases, and which ones, (cases,).

    Args:
        touching: (cases, organs, sides).
        near: (cases, organs, sides).
        present: (cases, organs).
    """
    others_near = near.sum(0) - near
    others_present = (present.sum(0) - present)[:, :, None]
    for limit in (1 - NEARLY_EVERY, 0.0):
        rare = (others_near <= limit * others_present) & (others_present >= FEWEST_CASES)
        flagged = (touching & rare).any((1, 2))
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
