"""The answer in one sentence: which model, by how much, how sure. Words never say more than the figures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.evaluation.verdict import Outcome, outcome
from unetr_nnunet.report.names import organ_label
from unetr_nnunet.report.study import Study

DASH, MINUS, TIMES = "\u2013", "\u2212", "\u00d7"
ROUNDING = 1e-12
"""Means that differ by less are equal."""


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
    leaders = [row["model"] for row in ranking if row["rank"] == 1]
    it = study.short(best) if len(leaders) > 1 else "it"
    who = _listed([study.names[name] for name in leaders])
    return f"{who} {_first_place(study, leaders, shown, count)}; {_against_others(study, best, it)}."


def _first_place(study: Study, leaders: Sequence[str], shown: str, count: str) -> str:
    """Return what the leaders are first in: the means of all their values where these agree with the ranking."""
    mean = number((study.comparison or {})["ranking"][0]["mean"])
    tied = len(leaders) > 1
    ranks = "share the first rank" if tied else "ranks first"
    if len(study.shared_cases) < len(study.cases):
        return f"{ranks} on the {cases_in_words(len(study.shared_cases))} that every model has (mean Dice {mean})"
    means = {name: figures["mean"] or 0 for name, figures in study.overall.items()}
    if min(means[name] for name in leaders) < max(means.values()) - ROUNDING:
        return f"{ranks} by the values that every model has (mean Dice {mean}, {count})"
    return f"share the highest mean Dice, {mean} ({count})" if tied else f"has the highest mean Dice, {shown}"


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


CLAUSES = {
    "better": "{it} is better than {others}",
    "worse": "the test favours {others} on the cases that both have",
    "ranks for": "ranks favour {it} over {others}, but the mean difference is not settled",
    "ranks against": "ranks favour {others} over {it}, but the mean difference is not settled",
    "no evidence": "there is no evidence of a difference {apart} {any_other}",
    "too few": "the cases are too few{tests} to tell {it} from {any_other}",
    "same": "there is no difference {apart} {any_other}",
    "no case": "no case is shared with {any_other}",
}


def _against_others(study: Study, best: ModelResults, it: str) -> str:
    pairs = pairs_of(study, best)
    known = [pair for pair in pairs if pair["mean"].get("difference") is not None]
    if not known:
        return "there are no common cases to compare it with the others on"
    nearest = min(known, key=lambda pair: float(pair["mean"]["difference"]))
    name, by = study.names[nearest["other"]], _by(nearest["mean"])
    standings: dict[str, list[str]] = {}
    for pair in pairs:
        standings.setdefault(_standing(pair["mean"], best), []).append(study.names[pair["other"]])
    words = {
        "it": it,
        "apart": "from" if it == "it" else f"between {it} and",
        "tests": f" for {study.comparisons} comparisons" if study.comparisons > 1 else "",
    }
    clauses = [
        clause.format(**words, **_others(standings[standing], len(pairs), standing))
        for standing, clause in CLAUSES.items()
        if standing in standings
    ]
    if len(pairs) > 1:
        return f"{'; '.join(clauses)} (nearest: {name}, {by})"
    return f"{clauses[0]} by {by}" if "better" in standings else f"{clauses[0]} ({by})"


def _standing(figures: dict[str, Any], best: ModelResults) -> str:
    """Return how a model stands to another one, the figures being its own less the other's: a key of `CLAUSES`."""
    return {
        Outcome.NO_CASE: "no case",
        Outcome.NO_DIFFERENCE: "same",
        Outcome.TOO_FEW: "too few",
        Outcome.NO_EVIDENCE: "no evidence",
        Outcome.RANKS_ONLY: "ranks for" if (figures["effect"] or 0) > 0 else "ranks against",
        Outcome.BETTER: "better" if figures["better"] == best.name else "worse",
    }[outcome(figures)]


def _others(names: Sequence[str], pairs: int, standing: str) -> dict[str, str]:
    """Return how a clause calls the other models, in two grammars."""
    if len(names) == pairs > 1:
        return {"others": f"all {pairs} others", "any_other": "any other"}
    listed = f"{len(names)} of {pairs} others" if standing == "better" and pairs > 1 else _listed(names)
    return {"others": listed, "any_other": listed}


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
