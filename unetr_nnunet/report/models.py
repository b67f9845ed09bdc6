"""The models of a report: their figures side by side, their names, and what is wrong with them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from unetr_nnunet.evaluation.comparison import Comparison, Pair, compare_models
from unetr_nnunet.evaluation.metrics import PAGE_METRICS, Metric
from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.evaluation.statistics import Estimate, Scores, describe_overall, known, mean
from unetr_nnunet.images.files import stem
from unetr_nnunet.report.seeds import pool_seeds

SOME = 12
"""How many names a sentence lists before it only counts."""
SEPARATOR, TRAINER = "_", "nnUNetTrainer"


@dataclass(frozen=True)
class ReportedModels:
    """Models under one protocol, side by side.

    Attributes:
        models: best first where there is a ranking, else as given. Trainings that differ in their seed alone are one.
        names: short name of each model and training by its full name.
        columns: organs (or the protocol's columns) that every model has.
        comparison: None for one model.
        problems: what the reader must know: models that could not be read, columns and cases left out.
        seeds: the trainings of each model that has several, by its full name.
    """

    models: tuple[ModelResults, ...]
    names: Mapping[str, str]
    columns: tuple[str, ...]
    comparison: Comparison | None
    problems: tuple[str, ...]
    seeds: Mapping[str, Sequence[ModelResults]] = field(default_factory=dict)

    @property
    def trainings(self) -> list[ModelResults]:
        """What was read: each model, or each of its seeds."""
        return [training for model in self.models for training in self.seeds.get(model.name, [model])]

    def short(self, model: ModelResults) -> str:
        """Return the name used in figures and tables."""
        return self.names[model.name]

    def shorten_owner(self, problem: str) -> str:
        """Put short names in place of the full ones before a problem's colon; the files named behind it stay true."""
        owners, colon, rest = problem.partition(": ")
        return ", ".join(self.names.get(owner, owner) for owner in owners.split(", ")) + colon + rest

    @cached_property
    def cases(self) -> list[str]:
        """Cases that at least one model has."""
        return sorted({case for model in self.models for case in model.evaluation.cases})

    @cached_property
    def shared_cases(self) -> list[str]:
        """Cases that every model has."""
        return [case for case in self.cases if all(case in model.evaluation.cases for model in self.models)]

    def case_mean(self, model: ModelResults, case: str) -> float:
        """Return a case's mean Dice over the columns that have a value; NaN where none has."""
        return mean(model.evaluation.figure(case, column, "dice") for column in self.columns)

    def case_means(self, model: ModelResults) -> dict[str, float]:
        """Return the mean Dice of each case that has one."""
        means = {case: self.case_mean(model, case) for case in model.evaluation.cases}
        return {case: dice for case, dice in means.items() if not math.isnan(dice)}

    def scores(self, model: ModelResults) -> Scores:
        """Return Dice by column and case."""
        return _scores(model, self.columns)

    def scores_of_seeds(self, model: ModelResults) -> list[Scores]:
        """Return Dice by column and case of each of a model's seeds; nothing where it has one training."""
        return [_scores(training, self.columns) for training in self.seeds.get(model.name, [])]

    def values(self, model: ModelResults, column: str) -> list[float]:
        """Return the Dice of every case that has a value of a column."""
        return known(model.evaluation.figure(case, column, "dice") for case in model.evaluation.cases)

    @cached_property
    def overall(self) -> dict[str, Estimate]:
        """Each model's Dice as a whole, by name."""
        return {model.name: describe_overall(self.scores(model), self.scores_of_seeds(model)) for model in self.models}

    @cached_property
    def pairs(self) -> list[Pair]:
        """The first model with each other one, in their order."""
        pairs = self.comparison.pairs_of(self.models[0].name) if self.comparison else []
        by_name = {pair.second: pair for pair in pairs}
        return [by_name[model.name] for model in self.models if model.name in by_name]

    @cached_property
    def metrics(self) -> list[Metric]:
        """Metrics of the page that every model was measured by."""
        return [metric for metric in PAGE_METRICS if all(_has(model, metric) for model in self.models)]


def _scores(model: ModelResults, columns: Sequence[str]) -> Scores:
    scores = model.evaluation.scores()
    return {column: scores[column] for column in columns}


def _has(model: ModelResults, metric: Metric) -> bool:
    return any(model.evaluation.has(column, metric.name) for column in model.evaluation.columns)


def gather(models: Sequence[ModelResults], problems: Sequence[str] = ()) -> ReportedModels:
    """Put models side by side.

    Args:
        models: one at least; different names, one protocol. Seeds of one model are put together (`pool_seeds`).
        problems: what went wrong before, for the page.

    Raises:
        ValueError: no model, two of one name, or different protocols.
    """
    columns = _shared_columns(models, problems)
    pooled, seeds = pool_seeds(models)
    scores = {model.name: _scores(model, columns) for model in pooled}
    of_seeds = {name: [_scores(training, columns) for training in trainings] for name, trainings in seeds.items()}
    comparison = compare_models(scores, of_seeds) if len(pooled) > 1 else None
    order = {row.model: row.rank for row in comparison.ranking} if comparison else {}
    ranked = tuple(sorted(pooled, key=lambda model: order.get(model.name, math.inf)))
    short = shorten([model.name for model in ranked])
    short |= {
        training.name: f"{short[name]}, seed {training.seed}"
        for name, trainings in seeds.items()
        for training in trainings
    }
    reported = ReportedModels(ranked, short, columns, comparison, (), seeds)
    notes = [f"{model.name}: {note}" for model in ranked if model.name in seeds for note in model.notes]
    observed = (*_column_problems(models, columns), *notes, *_case_problems(reported.trainings))
    return replace(reported, problems=(*problems, *observed))


def _shared_columns(models: Sequence[ModelResults], problems: Sequence[str]) -> tuple[str, ...]:
    if not models:
        raise ValueError("no model to report on" + "".join(f"; {problem}" for problem in problems))
    names = [model.name for model in models]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two models are called {twice[0]!r}: give them different names (--names)")
    protocols = {model.evaluation.protocol.name: model.name for model in models}
    if len(protocols) > 1:
        listed = ", ".join(f"{name!r} ({model})" for name, model in protocols.items())
        raise ValueError(f"the models were scored under different protocols, {listed}: evaluate all under one")
    evaluations = [model.evaluation for model in models]
    columns = tuple(
        column for column in evaluations[0].columns if all(column in evaluation.columns for evaluation in evaluations)
    )
    if not columns:
        raise ValueError("the models have no organ in common: are they of one data set?")
    if not any(evaluation.cases for evaluation in evaluations):
        reasons = [reason for evaluation in evaluations for reason in evaluation.refused.values()]
        raise ValueError("no case could be scored" + (f"; the first reason: {reasons[0]}" if reasons else ""))
    return columns


def _column_problems(models: Sequence[ModelResults], columns: Sequence[str]) -> list[str]:
    problems = []
    for model in models:
        others = [organ_label(column) for column in model.evaluation.columns if column not in columns]
        if others:
            problems.append(f"{model.name}: {some(others)} left out, as not every model has it")
    for column in columns:
        if not any(model.evaluation.over_cases(column).cases for model in models):
            problems.append(f"{organ_label(column)}: no case has a value, so it counts nowhere")
    return problems


def _case_problems(models: Sequence[ModelResults]) -> list[str]:
    every = {case: label for model in models for case, label in _labels_of(model).items()}
    models_of: dict[str, list[str]] = {}
    for model in models:
        for problem in _problems_of(model, every):
            models_of.setdefault(problem, []).append(model.name)
    return [
        f"{'every model' if len(names) == len(models) > 1 else some(names)}: {problem}"
        for problem, names in models_of.items()
    ]


def _labels_of(model: ModelResults) -> dict[str, str]:
    """Return by scored case what its label file is called, without the ending: it may be another name."""
    return {name: stem(Path(case.label)) if case.label else name for name, case in model.evaluation.cases.items()}


def _problems_of(model: ModelResults, every: Mapping[str, str]) -> list[str]:
    """Return what is wrong with one model's cases; ``every``: those that any model has, with their labels' names."""
    evaluation = model.evaluation
    problems = [f"{case} was refused: {reason}" for case, reason in list(evaluation.refused.items())[:SOME]]
    if len(evaluation.refused) > SOME:
        problems.append(f"{len(evaluation.refused) - SOME} more cases were refused; metrics.json names them")
    missing = sorted(every.keys() - evaluation.cases.keys() - evaluation.refused.keys())
    if missing:
        problems.append(f"no figures of {len(missing)} case(s) that another model has: {some(missing)}")
    named = {*missing, *(every[case] for case in missing)}
    listed = {
        "no prediction for": [case for case in evaluation.without_prediction if case not in named],
        "no label for": evaluation.without_label,
        "resampled to the label's grid:": list(evaluation.resampled),
    }
    problems += [f"{what} {some(names)}" for what, names in listed.items() if names]
    return [*problems, *model.notes]


def some(names: Sequence[str]) -> str:
    """Return names in a row, only the first of many."""
    return ", ".join(names[:SOME]) + (f" and {len(names) - SOME} more" if len(names) > SOME else "")


def organ_label(name: str) -> str:
    """Return a column's name for readers."""
    return name.replace("_", " ")


def shorten(names: Sequence[str]) -> dict[str, str]:
    """Return a short name for each model: without the parts that all names share, or all of its family.

    Words are separated by an underscore, as in trainer names; the first one is the family (``nnUNetTrainerUNETR``) and
    stays. Where two short names would be the same, nothing is left out.

    Args:
        names: different from each other.
    """
    if len(names) < 2:
        return {name: name for name in names}
    heads = {name: name.partition(" ")[0] for name in names}
    if any(name != head for name, head in heads.items()) and len({name.partition(" ")[2] for name in names}) == 1:
        short = shorten(list(heads.values()))  # plans or configuration, or another word behind all names
        return {name: short[head] for name, head in heads.items()}
    shared = _shared_words(names)
    short = {}
    for name in names:
        family, *rest = name.split(SEPARATOR)
        relatives = [other for other in names if other.split(SEPARATOR)[0] == family]
        spare = shared | (_shared_words(relatives) if len(relatives) > 1 else set())
        kept = [word for word in rest if word not in spare]
        first = family.removeprefix(TRAINER) or family
        short[name] = SEPARATOR.join([*([] if first in shared and kept else [first]), *kept])
    return short if len(set(short.values())) == len(names) and all(short.values()) else {name: name for name in names}


def _shared_words(names: Sequence[str]) -> set[str]:
    """Return the parts that all names have in common."""
    return set.intersection(*(set(name.split(SEPARATOR)) for name in names))
