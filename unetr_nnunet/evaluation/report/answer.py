"""The answer in one sentence: which model, by how much, how sure. Words never say more than the figures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.evaluation.report.names import organ_label
from unetr_nnunet.evaluation.report.study import Study
from unetr_nnunet.evaluation.verdict import Outcome, outcome

DASH, MINUS, TIMES = "\u2013", "\u2212", "\u00d7"


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure as text, a dash where there is none."""
    return DASH if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """Return a difference as text, with its sign."""
    return DASH if value is None or not math.isfinite(value) else f"{value:+.{digits}f}".replace("-", MINUS)


def p_value(value: float | None) -> str:
    """Return a p value as text."""
    if value is None or not math.isfinite(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def interval(figures: Mapping[str, Any], digits: int = 3) -> str:
    """Return "low to high"; a dash where there is no interval."""
    if figures.get("low") is None or not math.isfinite(figures["low"]):
        return DASH
    return f"{number(figures['low'], digits)} to {number(figures['high'], digits)}".replace("-", MINUS)


def cases_in_words(count: int) -> str:
    """Return "1 case" or "n cases"."""
    return f"{count} case" + ("" if count == 1 else "s")


def oriented(pair: Mapping[str, Any], first: str) -> dict[str, Any]:
    """Return a pair's figures as ``first`` minus the other, by column and for "mean", whichever way they were made."""
    turn = pair["first"] != first
    return {
        "other": pair["first"] if turn else pair["second"],
        "cases": pair["cases"],
        "columns": {column: _turned(figures, turn) for column, figures in pair["columns"].items()},
        "mean": _turned(pair["mean"], turn),
    }


def _turned(figures: Mapping[str, Any], turn: bool) -> dict[str, Any]:
    if not turn:
        return dict(figures)
    signs = ("difference", "low", "high", "effect")
    minus = {key: None if figures.get(key) is None else -figures[key] for key in signs}
    return {**figures, **minus, "low": minus["high"], "high": minus["low"]}


def pairs_of(study: Study, model: ModelResults) -> list[dict[str, Any]]:
    """Return the comparisons of one model with each other one, in the study's order."""
    if not study.comparison:
        return []
    found = {
        pair["other"]: pair
        for each in study.comparison["pairs"]
        if model.name in (each["first"], each["second"])
        for pair in [oriented(each, model.name)]
    }
    return [found[other.name] for other in study.models if other.name in found]


def answer(study: Study) -> str:
    """Return the answer in one sentence, or two where it needs a caution."""
    best = study.models[0]
    figures = study.overall[best.name]
    if not figures["cases"]:
        return "No case has a value, so there is nothing to say about any model."
    count = cases_in_words(figures["cases"])
    shown = f"{number(figures['mean'])} ({_sure(figures)}, {count})"
    if not study.comparison:
        return f"{study.short(best)} reaches a mean Dice of {shown}{_range_of_organs(study, best)}."
    ranking = study.comparison["ranking"]
    if not ranking:
        return "No case has been scored for every model, so the models cannot be ranked; each stands for itself below."
    first = f"has the highest mean Dice, {shown}"
    if any((study.overall[model.name]["mean"] or 0) > figures["mean"] for model in study.models):
        first = f"ranks first by the values that every model has (mean Dice {number(ranking[0]['mean'])}, {count})"
    if len(study.shared_cases) < len(study.cases):
        shared = cases_in_words(len(study.shared_cases))
        first = f"ranks first on the {shared} that every model has (mean Dice {number(ranking[0]['mean'])})"
    return f"{study.short(best)} {first}; {_against_others(study, best)}."


def _sure(figures: Mapping[str, Any]) -> str:
    return "no interval from so few cases" if figures["low"] is None else f"95 % interval {interval(figures)}"


def _range_of_organs(study: Study, model: ModelResults) -> str:
    means = {
        column: sum(values) / len(values)
        for column in study.columns
        if (values := list(study.column_values(model, column).values()))
    }
    if len(means) < 2:
        return ""
    ordered = sorted(means, key=lambda column: means[column])
    high, low = ordered[-1], ordered[0]
    return f", from {number(means[low])} on the {organ_label(low)} to {number(means[high])} on the {organ_label(high)}"


def _against_others(study: Study, best: ModelResults) -> str:
    pairs = pairs_of(study, best)
    known = [pair for pair in pairs if pair["mean"].get("difference") is not None]
    if not known:
        return "there are no common cases to compare it with the others on"
    nearest = min(known, key=lambda pair: float(pair["mean"]["difference"]))
    name, by = study.names[nearest["other"]], _by(nearest["mean"])
    unshown = [pair for pair in pairs if pair["mean"].get("better") != best.name]
    if len(pairs) == 1:
        return _against_one(name, by, nearest, bool(unshown))
    if not unshown:
        return f"it is better than all {len(pairs)} others, the nearest being {name}, by {by}"
    others = "any other"
    if len(unshown) < len(pairs):
        others = _listed([study.names[pair["other"]] for pair in unshown])
    if any(outcome(pair["mean"]) is Outcome.TOO_FEW for pair in unshown):
        tests = f"{study.comparisons} comparisons"
        return f"the cases are too few for {tests} to tell it from {others} (nearest: {name}, {by})"
    if len(unshown) == len(pairs):
        return f"there is no evidence of a difference from any other (nearest: {name}, {by})"
    some = f"it is better than {len(pairs) - len(unshown)} of {len(pairs)} others"
    return f"{some}, with no evidence of a difference from {others} (nearest: {name}, {by})"


def _against_one(name: str, by: str, pair: Mapping[str, Any], unshown: bool) -> str:
    if not unshown:
        return f"it is better than {name} by {by}"
    if outcome(pair["mean"]) is Outcome.TOO_FEW:
        return f"the cases are too few to tell it from {name} ({by})"
    return f"there is no evidence of a difference from {name} ({by})"


def _by(figures: Mapping[str, Any]) -> str:
    """Return a difference, its interval and its p."""
    sure = "too few cases for an interval"
    if figures.get("low") is not None:
        sure = f"95 % interval {signed(figures['low'])} to {signed(figures['high'])}"
    p = p_value(figures.get("p_holm"))
    return f"{signed(figures['difference'])}, {sure}, " + (f"p {p}" if p.startswith("<") else f"p = {p}")


def pair_words(study: Study, first: str, pair: Mapping[str, Any], figures: dict[str, Any]) -> str:
    """Return the verdict on one difference in a few words; the numbers stand beside it.

    Args:
        study: for the short names.
        first: full name of the model whose figures come first.
        pair: what was compared (see `oriented`).
        figures: of a column or the mean.
    """
    ahead = study.names[first if (figures["effect"] or 0) > 0 else pair["other"]]
    return {
        Outcome.NO_CASE: "no common case",
        Outcome.NO_DIFFERENCE: "no difference",
        Outcome.TOO_FEW: "too few cases to tell",
        Outcome.NO_EVIDENCE: "no evidence of a difference",
        Outcome.RANKS_ONLY: f"ranks favour {ahead}, the mean is not settled",
        Outcome.BETTER: f"{ahead} is better",
    }[outcome(figures)]


def _listed(names: Sequence[str], most: int = 4) -> str:
    if len(names) > most:
        return f"{len(names)} others ({', '.join(names[:most])}, …)"
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def weakest_organs(study: Study, model: ModelResults, case: str, most: int = 3) -> list[tuple[str, float]]:
    """Return the organs with the lowest Dice of a case."""
    values = [(column, study.value(model, case, column)) for column in study.columns]
    known = [(column, value) for column, value in values if math.isfinite(value)]
    return sorted(known, key=lambda item: item[1])[:most]
