"""Which masks to look at: flags on the organs of a case, each with its reason.

Ranges, presence and order come from the training labels (`nnunet.label_statistics`), which the model folder holds where
one of our trainers has made it. Without them, the sides and the order of the known organs are those of `organs`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from unetr_nnunet.nnunet.label_statistics import AXES, Figure, Order, TrainingStatistics
from unetr_nnunet.nnunet.organ_measures import OrganMeasures
from unetr_nnunet.organs import ORGAN_ORDER, RUNS_ON, find_organ

LEAST_PROBABILITY = 0.7
"""Mean probability of an organ's voxels below which it is flagged. Of 1202 organs of the benchmark with a Dice of at
least 0.5, the lowest has 0.73."""
LEAST_FOLD_DICE = 0.6
"""Mean Dice between folds below which an organ is flagged; of 226 such organs the lowest has 0.78."""
REVERSED_SHARE = 0.5
"""Share of an axis's pairs of organs that must lie the wrong way round for the image to be called mirrored."""
FEWEST_PAIRS = 3
"""And of how many pairs at least."""

WHOLE_CASE = "(case)"
"""In place of an organ: flags of the case as a whole."""

_MIRRORED = {
    "left": "the image may be mirrored left to right",
    "back": "front and back of the image may be exchanged",
    "head": "the image may be upside down",
}
_LIES = {"left": ("left of", "right of"), "back": ("behind", "in front of"), "head": ("above", "below")}
_UNITS: dict[Figure, tuple[str, str]] = {"volume_ml": ("volume", " ml"), "mean_hu": ("mean", " HU"), "parts": ("", "")}


@dataclass(frozen=True)
class CaseMeasures:
    """What the flags of a case follow from; organs that were not found are left out everywhere.

    Attributes:
        organs: measures on the network's grid.
        probabilities: mean probability of each organ over its voxels.
        fold_dice: mean Dice of each organ between the folds' own label maps; empty with one fold.
    """

    organs: Mapping[str, OrganMeasures]
    probabilities: Mapping[str, float] = field(default_factory=dict)
    fold_dice: Mapping[str, float] = field(default_factory=dict)


Flags = dict[str, list[str]]
"""Reasons by organ, or by `WHOLE_CASE`; organs without a flag are left out."""


def check_case(measures: CaseMeasures, names: Iterable[str], statistics: TrainingStatistics | None) -> Flags:
    """Return what is suspicious about a case.

    Args:
        measures: of the case.
        names: all organs of the model.
        statistics: of the training labels; None where they are unknown.
    """
    flags: defaultdict[str, list[str]] = defaultdict(list)
    if not measures.organs:
        flags[WHOLE_CASE].append("nothing was found")
    if shifted := _shifted(measures.organs, statistics):
        flags[WHOLE_CASE].append(shifted)
    for organ in names:
        own = measures.organs.get(organ)
        if own is None:
            reasons = _absent(organ, statistics)
        else:
            reasons = [*_at_border(organ, own, statistics), *_outside(organ, own, statistics)]
            reasons += _uncertain(organ, measures)
        if reasons:
            flags[organ] += reasons
    for organ, reason in _misplaced(measures.organs, statistics):
        flags[organ].append(reason)
    return dict(flags)


def _absent(organ: str, statistics: TrainingStatistics | None) -> list[str]:
    if statistics is None or not statistics.expects(organ):
        return []
    return [f"empty, but there in {statistics.organs[organ].cases} of {statistics.cases} training cases"]


def _at_border(organ: str, own: OrganMeasures, statistics: TrainingStatistics | None) -> list[str]:
    if statistics is None:
        known = find_organ(organ)
        flagged = own.at_border and not (known and known.name in RUNS_ON)
    else:
        flagged = statistics.is_cut_off(organ, own)
    return ["touches the border of the image"] if flagged else []


def _outside(organ: str, own: OrganMeasures, statistics: TrainingStatistics | None) -> list[str]:
    reasons = []
    for figure in _UNITS if statistics else ():
        value, limits = getattr(own, figure), statistics.limits(organ, figure) if statistics else None
        if statistics and limits and value is not None and not limits[0] <= value <= limits[1]:
            reasons.append(_range_reason(figure, value, statistics.organs[organ].ranges[figure]))
    return reasons


def _shifted(organs: Mapping[str, OrganMeasures], statistics: TrainingStatistics | None) -> str | None:
    """Return the reason where all organs together are much brighter or darker than in training."""
    shift = statistics.shift_hu(organs) if statistics else None
    if statistics is None or shift is None or not statistics.shifts_hu or not statistics.shift_limits_hu:
        return None
    low, high = statistics.shift_limits_hu
    if low <= shift <= high:
        return None
    usual = " to ".join(f"{end:+.0f}" for end in statistics.shifts_hu)
    return f"HU may be shifted: organs differ by {shift:+.0f} HU from the median in training, training {usual} HU"


def _range_reason(figure: Figure, value: float, training: tuple[float, float]) -> str:
    name, unit = _UNITS[figure]
    low, high = (_rounded(end) for end in training)
    known = f"training {low}{unit}" if low == high else f"training {low} to {high}{unit}"
    if figure == "parts":
        return f"{value:.0f} part{'' if value == 1 else 's'}, {known}"
    return f"{name} {_rounded(value)}{unit}, {known}"


def _rounded(value: float) -> str:
    """Return a number with as many decimals as three digits take."""
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _uncertain(organ: str, measures: CaseMeasures) -> list[str]:
    reasons = []
    probability, dice = measures.probabilities.get(organ), measures.fold_dice.get(organ)
    if probability is not None and probability < LEAST_PROBABILITY:
        reasons.append(f"mean probability {probability:.2f}")
    if dice is not None and dice < LEAST_FOLD_DICE:
        reasons.append(f"folds disagree: Dice {dice:.2f}")
    return reasons


def known_order(names: Iterable[str]) -> tuple[Order, ...]:
    """Return the pairs of known organs that lie in a known order, under the names that a model has for them."""
    named = {known.name: name for name in names if (known := find_organ(name))}
    return tuple(
        Order(towards=axis, first=named[first], second=named[second])
        for axis in AXES
        for first, second in ORGAN_ORDER[axis]
        if first in named and second in named
    )


def _misplaced(organs: Mapping[str, OrganMeasures], statistics: TrainingStatistics | None) -> list[tuple[str, str]]:
    """Return (organ or `WHOLE_CASE`, reason) of pairs of organs that lie the wrong way round."""
    order = statistics.order if statistics and statistics.order else known_order(organs)
    reasons = []
    for axis, name in enumerate(AXES):
        apart_mm = _distances_mm([pair for pair in order if pair.towards == name], organs, axis)
        wrong = [pair for pair, distance in apart_mm.items() if distance < 0]
        if len(apart_mm) >= FEWEST_PAIRS and len(wrong) >= REVERSED_SHARE * len(apart_mm):
            worst = min(wrong, key=lambda pair: apart_mm[pair])
            example = f"{worst.first} {_LIES[name][1]} {worst.second}"
            count = f"{len(wrong)} of {len(apart_mm)} pairs of organs lie the wrong way round, such as {example}"
            reasons.append((WHOLE_CASE, f"{_MIRRORED[name]}: {count}"))
        else:
            reasons += _single(list(apart_mm), wrong, name)
    return reasons


def _distances_mm(pairs: Sequence[Order], organs: Mapping[str, OrganMeasures], axis: int) -> dict[Order, float]:
    """Return how far the first of a pair lies towards its end from the second; negative the wrong way round.

    Pairs of which one is not there, or has no place, are left out.
    """
    places = {name: own.place_mm for name, own in organs.items()}
    return {
        pair: first[axis] - second[axis]
        for pair in pairs
        if (first := places.get(pair.first)) is not None and (second := places.get(pair.second)) is not None
    }


def _single(pairs: Sequence[Order], wrong: Sequence[Order], axis: str) -> list[tuple[str, str]]:
    """Return the organs of which most pairs are wrong; where two organs share their only one, both."""
    reasons = []
    for organ in dict.fromkeys(organ for pair in wrong for organ in (pair.first, pair.second)):
        own = [pair for pair in wrong if organ in (pair.first, pair.second)]
        if 2 * len(own) > sum(organ in (pair.first, pair.second) for pair in pairs):
            should, lies = _LIES[axis] if own[0].first == organ else _LIES[axis][::-1]
            other = own[0].second if own[0].first == organ else own[0].first
            reasons.append((organ, f"lies {lies} {other}; it should lie {should} it"))
    return reasons
