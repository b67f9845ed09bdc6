"""The result of a report in one sentence, and the paired differences behind it."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from unetr_nnunet.evaluation.comparison import Comparison, Pair
from unetr_nnunet.evaluation.metrics import DICE, NO_VALUE, ROUNDING
from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.evaluation.verdict import Difference, Outcome, count, p_equation
from unetr_nnunet.report.figures import difference_axis, difference_cell
from unetr_nnunet.report.models import ReportedModels, organ_label
from unetr_nnunet.report.svg import Scale, nice_scale, typographic

FIGURE_PX = 230.0


def answer(reported: ReportedModels) -> str:
    """Return the answer in one sentence, or two where it needs a caution."""
    best = reported.models[0]
    overall = reported.overall[best.name]
    if not overall.cases:
        return "No case has a value, so there is nothing to say about any model."
    interval = DICE.interval(overall.low, overall.high)
    certainty = "no interval from so few cases" if interval == NO_VALUE else f"95 % interval {interval}"
    shown = f"{DICE.text(overall.mean)} ({certainty}, {count(overall.cases, 'case')})"
    if not reported.comparison:
        return f"{reported.short(best)} reaches a mean Dice of {shown}{_range_of_organs(reported, best)}."
    ranking = reported.comparison.ranking
    if not ranking:
        return "No case has been scored for every model, so the models cannot be ranked; their figures follow."
    leaders = [row.model for row in ranking if row.rank == 1]
    it = reported.short(best) if len(leaders) > 1 else "it"
    who = _listed([reported.names[name] for name in leaders])
    place = _first_place(reported, leaders, shown, ranking[0].mean)
    return f"{who} {place}; {_against_others(reported, it)}."


def _first_place(reported: ReportedModels, leaders: Sequence[str], shown: str, mean: float) -> str:
    """Return what the leaders are first in: the means of all their values where these agree with the ranking."""
    tied = len(leaders) > 1
    ranks = "share the first rank" if tied else "ranks first"
    cases = count(reported.overall[reported.models[0].name].cases, "case")
    if len(reported.shared_cases) < len(reported.cases):
        shared = count(len(reported.shared_cases), "case")
        return f"{ranks} on the {shared} that every model has (mean Dice {DICE.text(mean)})"
    means = {name: 0.0 if math.isnan(overall.mean) else overall.mean for name, overall in reported.overall.items()}
    if min(means[name] for name in leaders) < max(means.values()) - ROUNDING:
        return f"{ranks} by the values that every model has (mean Dice {DICE.text(mean)}, {cases})"
    return (
        f"share the highest mean Dice, {DICE.text(mean)} ({cases})" if tied else f"has the highest mean Dice, {shown}"
    )


def _range_of_organs(reported: ReportedModels, model: ModelResults) -> str:
    over_cases = {column: model.evaluation.over_cases(column) for column in reported.columns}
    means = {column: over.mean for column, over in over_cases.items() if over.cases}
    if len(means) < 2:
        return ""
    low, *_, high = sorted(means, key=means.__getitem__)
    ends = [f"{DICE.text(means[column])} on the {organ_label(column)}" for column in (low, high)]
    return f", from {' to '.join(ends)}"


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


def _against_others(reported: ReportedModels, it: str) -> str:
    pairs = reported.pairs
    compared = [pair for pair in pairs if pair.mean.cases]
    if not compared:
        return "there are no common cases to compare it with the others on"
    nearest = min(compared, key=lambda pair: pair.mean.difference)
    by = _by(nearest.mean)
    standings: dict[str, list[str]] = {}
    for pair in pairs:
        standings.setdefault(_standing(pair.mean), []).append(reported.names[pair.second])
    tests = compared[0].mean.tests
    grammar = {
        "it": it,
        "apart": "from" if it == "it" else f"between {it} and",
        "tests": f" for {tests} comparisons" if tests > 1 else "",
    }
    clauses = [
        clause.format(**grammar, **_others(standings[standing], len(pairs), standing))
        for standing, clause in CLAUSES.items()
        if standing in standings
    ]
    if len(pairs) > 1:
        return f"{'; '.join(clauses)} (nearest: {reported.names[nearest.second]}, {by})"
    return f"{clauses[0]} by {by}" if "better" in standings else f"{clauses[0]} ({by})"


def _standing(difference: Difference) -> str:
    """Return how a model compares with another one (its own Dice less the other's): a key of `CLAUSES`."""
    return {
        Outcome.NO_CASE: "no case",
        Outcome.NO_DIFFERENCE: "same",
        Outcome.TOO_FEW: "too few",
        Outcome.NO_EVIDENCE: "no evidence",
        Outcome.RANKS_ONLY: "ranks for" if difference.favours_first else "ranks against",
        Outcome.BETTER: "better" if difference.favours_first else "worse",
    }[difference.outcome]


def _others(names: Sequence[str], pairs: int, standing: str) -> dict[str, str]:
    """Return how a clause calls the other models, in two grammars."""
    if len(names) == pairs > 1:
        return {"others": f"all {pairs} others", "any_other": "any other"}
    listed = f"{len(names)} of {pairs} others" if standing == "better" and pairs > 1 else _listed(names)
    return {"others": listed, "any_other": listed}


def _by(difference: Difference) -> str:
    """Return a difference, its interval and its p."""
    interval = DICE.interval(difference.low, difference.high, signed=True)
    certainty = "too few cases for an interval" if interval == NO_VALUE else f"95 % interval {interval}"
    return typographic(f"{DICE.text(difference.difference, signed=True)}, {certainty}, {p_equation(difference.p_holm)}")


def _listed(names: Sequence[str], most: int = 4) -> str:
    if len(names) > most:
        return f"{len(names)} others ({', '.join(names[:most])}, …)"
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def difference_section(reported: ReportedModels) -> dict[str, Any] | None:
    """Return what the template of the paired differences needs; None for one model."""
    if not reported.comparison:
        return None
    leader = reported.models[0]
    return {
        "leader": reported.short(leader),
        "pairs": [_pair(reported, pair) for pair in reported.pairs],
        "matrix": [(reported.short(model), _row(reported, model, reported.comparison)) for model in reported.models],
        "names": [reported.short(model) for model in reported.models],
        "ranking": [(reported.names[row.model], row) for row in reported.comparison.ranking],
        "statement": reported.comparison.statement,
    }


def _pair(reported: ReportedModels, pair: Pair) -> dict[str, Any]:
    names = reported.names[pair.first], reported.names[pair.second]
    organs = {organ_label(column): difference for column, difference in pair.columns.items()}
    scale = _scale([pair.mean, *organs.values()])

    def row(title: str, difference: Difference, organ: str | None) -> dict[str, Any]:
        return {
            "organ": title,
            "difference": difference,
            "picture": difference_cell(difference, scale, f"difference on {title}"),
            "words": pair_words(difference, *names),
            "verdict": difference.verdict(*names, organ),
        }

    return {
        "other": names[1],
        "cases": pair.cases,
        "mean": pair.mean,
        "axis": difference_axis(scale),
        "rows": [
            row("mean of organs", pair.mean, None),
            *(row(organ, difference, organ) for organ, difference in organs.items()),
        ],
    }


def _scale(differences: Iterable[Difference]) -> Scale:
    ends = [
        end
        for difference in differences
        for end in (difference.difference, difference.low, difference.high)
        if not math.isnan(end)
    ]
    return nice_scale(min([0.0, *ends]), max([0.0, *ends]), 8, FIGURE_PX, 4)


def pair_words(difference: Difference, first: str, second: str) -> str:
    """Return a short verdict on one difference; the table has its numbers."""
    ahead = first if difference.favours_first else second
    return {
        Outcome.NO_CASE: "no common case",
        Outcome.NO_DIFFERENCE: "no difference",
        Outcome.TOO_FEW: "too few cases to tell",
        Outcome.NO_EVIDENCE: "no evidence of a difference",
        Outcome.RANKS_ONLY: f"ranks favour {ahead}, the mean is not settled",
        Outcome.BETTER: f"{ahead} is better",
    }[difference.outcome]


def _row(reported: ReportedModels, model: ModelResults, comparison: Comparison) -> list[Difference | None]:
    """Return a model's mean difference from every other one: row less column."""
    means = {pair.second: pair.mean for pair in comparison.pairs_of(model.name)}
    return [means.get(other.name) for other in reported.models]
