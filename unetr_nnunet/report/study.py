"""What a report is about: the models that were read, their figures by case, and what is amiss with them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from unetr_nnunet.evaluation.comparison import compare_models
from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.evaluation.statistics import describe_overall
from unetr_nnunet.evaluation.summary_reader import case_of
from unetr_nnunet.report.names import organ_label, shorten
from unetr_nnunet.report.seeds import known_values, pool_seeds

SOME = 12
"""How many names a sentence lists before it only counts."""


@dataclass(frozen=True)
class Study:
    """Models under one protocol, side by side.

    Attributes:
        models: best first where there is a ranking, else as given. Trainings that differ in their seed alone are one.
        names: short name of each model and training by its full name.
        columns: organs (or the protocol's columns) that every model has.
        comparison: what `compare_models` says; None for one model.
        problems: what the reader must know: models that could not be read, columns and cases left out.
        seeds: the trainings of each model that has several, by its full name.
    """

    models: tuple[ModelResults, ...]
    names: Mapping[str, str]
    columns: tuple[str, ...]
    comparison: Mapping[str, Any] | None
    problems: tuple[str, ...]
    seeds: Mapping[str, Sequence[ModelResults]] = field(default_factory=dict)

    @property
    def trainings(self) -> list[ModelResults]:
        """Return what was read: each model, or each of its seeds."""
        return [training for model in self.models for training in self.seeds.get(model.name, [model])]

    def short(self, model: ModelResults) -> str:
        """Return the name used in figures and tables."""
        return self.names[model.name]

    def shorten_text(self, words: str) -> str:
        """Put short names in place of the full ones, in a text that names no file."""
        longest_first = sorted(self.names, key=len, reverse=True)
        pattern = "|".join(re.escape(name) for name in longest_first)
        return re.sub(pattern, lambda found: self.names[found.group()], words) if pattern else words

    def shorten_owner(self, problem: str) -> str:
        """Put short names in place of the full ones before a problem's colon; the files named behind it stay true."""
        owners, colon, words = problem.partition(": ")
        return ", ".join(self.names.get(owner, owner) for owner in owners.split(", ")) + colon + words

    @cached_property
    def cases(self) -> list[str]:
        """Cases that at least one model has."""
        return sorted({case for model in self.models for case in model.evaluation["cases"]})

    @cached_property
    def shared_cases(self) -> list[str]:
        """Cases that every model has."""
        return [case for case in self.cases if all(case in model.evaluation["cases"] for model in self.models)]

    def value(self, model: ModelResults, case: str, column: str, metric: str = "dice") -> float:
        """Return one figure; NaN where there is none."""
        value = model.evaluation["cases"].get(case, {}).get(column, {}).get(metric)
        return math.nan if value is None else float(value)

    def case_mean(self, model: ModelResults, case: str, metric: str = "dice") -> float:
        """Return a case's mean over the columns that have a value; NaN where none has."""
        known = known_values(self.value(model, case, column, metric) for column in self.columns)
        return fmean(known) if known else math.nan

    def case_means(self, model: ModelResults) -> dict[str, float]:
        """Return the mean Dice of each case that has one."""
        means = {case: self.case_mean(model, case) for case in model.evaluation["cases"]}
        return {case: mean for case, mean in means.items() if math.isfinite(mean)}

    def column_values(self, model: ModelResults, column: str, metric: str = "dice") -> dict[str, float]:
        """Return a metric by case, cases without a value left out."""
        values = {case: self.value(model, case, column, metric) for case in model.evaluation["cases"]}
        return {case: value for case, value in values.items() if math.isfinite(value)}

    @property
    def comparisons(self) -> int:
        """Number of pairs of models."""
        return len(self.comparison["pairs"]) if self.comparison else 0

    def scores(self, model: ModelResults) -> dict[str, dict[str, float]]:
        """Return Dice by column and case."""
        return {column: self.column_values(model, column) for column in self.columns}

    @cached_property
    def overall(self) -> dict[str, dict[str, Any]]:
        """Return what there is to say of each model's Dice as a whole, by name.

        ``mean``, ``low``, ``high`` and ``cases`` as in `describe_overall`; ``median`` and ``sd`` of the cases' own
        means.
        """
        return {model.name: self._overall(model) for model in self.models}

    def _overall(self, model: ModelResults) -> dict[str, Any]:
        means = list(self.case_means(model).values())
        of_cases = {"median": median(means) if means else None, "sd": stdev(means) if len(means) > 1 else None}
        return {**of_cases, **describe_overall(self.scores(model))}

    @cached_property
    def metrics(self) -> list[str]:
        """Metrics that every model's evaluation holds, in the order of the first one."""
        listed = [model.evaluation.get("metrics", ["dice"]) for model in self.models]
        return [metric for metric in listed[0] if all(metric in others for others in listed)]

    def protocol(self) -> Mapping[str, Any]:
        """Return name, statement and source of the protocol."""
        return protocol_of(self.models[0])


def protocol_of(model: ModelResults) -> Mapping[str, Any]:
    """Return the protocol of an evaluation; older ones hold the rule alone."""
    rule = model.evaluation.get("rule") or {}
    known = {"name": rule.get("name", "nnunet"), "statement": rule.get("statement", ""), "source": ""}
    return {**known, **(model.evaluation.get("protocol") or {})}


def gather(models: Sequence[ModelResults], problems: Sequence[str] = ()) -> Study:
    """Put models side by side.

    Args:
        models: one at least; different names, one protocol. Seeds of one model are put together (`pool_seeds`).
        problems: what went wrong before, for the page.

    Raises:
        ValueError: no model, two of one name, or different protocols.
    """
    if not models:
        raise ValueError("no model to report on" + "".join(f"; {problem}" for problem in problems))
    names = [model.name for model in models]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two models are called {twice[0]!r}: give them different names (--names)")
    protocols = {str(protocol_of(model)["name"]): model.name for model in models}
    if len(protocols) > 1:
        found = ", ".join(f"{name!r} ({model})" for name, model in protocols.items())
        raise ValueError(f"the models were scored under different protocols, {found}: evaluate all under one")
    columns = tuple(column for column in models[0].columns if all(column in model.columns for model in models))
    if not columns:
        raise ValueError("the models have no organ in common: are they of one data set?")
    if not any(model.evaluation["cases"] for model in models):
        reasons = [reason for model in models for reason in model.evaluation.get("refused", {}).values()]
        raise ValueError("no case could be scored" + (f"; the first reason: {reasons[0]}" if reasons else ""))
    pooled, seeds = pool_seeds(models)
    comparison = _compare(pooled, columns) if len(pooled) > 1 else None
    order = {row["model"]: row["rank"] for row in comparison["ranking"]} if comparison else {}
    ranked = tuple(sorted(pooled, key=lambda model: order.get(model.name, math.inf)))
    short = shorten([model.name for model in ranked])
    short |= {each.name: f"{short[name]}, seed {each.seed}" for name, trainings in seeds.items() for each in trainings}
    study = Study(ranked, short, columns, comparison, tuple(problems), seeds)
    of_seeds = [f"{model.name}: {note}" for model in ranked if model.name in seeds for note in model.notes]
    amiss = (*_column_problems(models, columns), *of_seeds, *_case_problems(study.trainings))
    return replace(study, problems=(*problems, *amiss))


def _compare(models: Sequence[ModelResults], columns: Sequence[str]) -> Mapping[str, Any]:
    alone = Study(tuple(models), {}, tuple(columns), None, ())
    return compare_models({model.name: alone.scores(model) for model in models})


def _column_problems(models: Sequence[ModelResults], columns: Sequence[str]) -> list[str]:
    problems = []
    for model in models:
        others = [organ_label(column) for column in model.columns if column not in columns]
        if others:
            problems.append(f"{model.name}: {some(others)} left out, as not every model has it")
    for column in columns:
        if not any(known_values(row.get(column, {}).get("dice", math.nan) for row in _rows(model)) for model in models):
            problems.append(f"{organ_label(column)}: no case has a value; it counts nowhere")
    return problems


def _rows(model: ModelResults) -> list[Any]:
    return list(model.evaluation["cases"].values())


def _case_problems(models: Sequence[ModelResults]) -> list[str]:
    every = {case: label for model in models for case, label in _labels_of(model).items()}
    models_of: dict[str, list[str]] = {}
    for model in models:
        for words in _problems_of(model, every):
            models_of.setdefault(words, []).append(model.name)
    return [
        f"{'every model' if len(names) == len(models) > 1 else some(names)}: {words}"
        for words, names in models_of.items()
    ]


def _labels_of(model: ModelResults) -> dict[str, str]:
    """Return by scored case what its label file is called, without the ending: it may be another name."""
    files = model.evaluation.get("files") or {}
    return {case: case_of(Path(files[case]["label"])) if case in files else case for case in model.evaluation["cases"]}


def _problems_of(model: ModelResults, every: Mapping[str, str]) -> list[str]:
    """Return what is amiss with one model's cases; ``every`` is those that any model has, with their labels' names."""
    evaluation = model.evaluation
    refused = evaluation.get("refused") or {}
    problems = [f"{case} was refused: {reason}" for case, reason in list(refused.items())[:SOME]]
    if len(refused) > SOME:
        problems.append(f"{len(refused) - SOME} more cases were refused; metrics.json names them")
    missing = sorted(every.keys() - set(evaluation["cases"]) - set(refused))
    if missing:
        problems.append(f"no figures of {len(missing)} case(s) that another model has: {some(missing)}")
    named = {*missing, *(every[case] for case in missing)}
    listed = {
        "no prediction for": [case for case in evaluation.get("without_prediction") or [] if case not in named],
        "no label for": evaluation.get("without_label") or [],
        "resampled to the label's grid:": list(evaluation.get("resampled") or {}),
    }
    problems += [f"{words} {some(names)}" for words, names in listed.items() if names]
    return [*problems, *model.notes]


def some(names: Sequence[str]) -> str:
    """Return names in a row, only the first of many."""
    return ", ".join(names[:SOME]) + (f" and {len(names) - SOME} more" if len(names) > SOME else "")
