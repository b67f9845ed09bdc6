"""Pool trainings that differ only in their seed into one model, whose figures are means over them.

Compared as rivals they would crowd the page, and each test would be corrected for comparisons that are of no interest.
A mean takes only values that every seed has: where an organ is absent from truth, the seeds that rightly leave it out
have no Dice under nnU-Net's rule, and the 0 of the one that paints it would count for all of them.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from unetr_nnunet.evaluation.metrics import METRICS, OrganFigures
from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.evaluation.statistics import known


def name_without_seed(model: ModelResults) -> str:
    """Return the name that all seeds of a model share."""
    return model.name if model.seed is None else re.sub(rf"(_|, )?seed ?{model.seed}(?!\d)", "", model.name)


def pool_seeds(trainings: Sequence[ModelResults]) -> tuple[list[ModelResults], dict[str, list[ModelResults]]]:
    """Put the seeds of each model together.

    Args:
        trainings: what was read, one for each seed.

    Returns:
        The models, and the trainings of each that has several by its name, in the order of their seeds. Trainings that
        share no case (each seed has other folds), or of which one has no seed, stay models of their own. The notes of
        the means say how many values of Dice were dropped because not every seed has them.
    """
    groups: dict[str, list[ModelResults]] = {}
    for training in trainings:
        groups.setdefault(name_without_seed(training), []).append(training)
    models: list[ModelResults] = []
    seeds: dict[str, list[ModelResults]] = {}
    for name, group in groups.items():
        different = {training.seed for training in group} - {None}
        if len(different) == len(group) > 1 and _shared_cases(group):
            seeds[name] = sorted(group, key=lambda training: training.seed or 0)
            models.append(_mean_model(name, seeds[name]))
        else:
            models += group
    return models, seeds


def _shared_cases(trainings: Sequence[ModelResults]) -> list[str]:
    """Return the cases that every training has, in the order of the first."""
    first, *others = (training.evaluation.cases for training in trainings)
    return [case for case in first if all(case in other for other in others)]


def _mean_model(name: str, trainings: Sequence[ModelResults]) -> ModelResults:
    """Return the mean over trainings, case by case; masks are those of the first."""
    evaluations = [training.evaluation for training in trainings]
    columns = [
        column for column in evaluations[0].columns if all(column in evaluation.columns for evaluation in evaluations)
    ]
    cases, dropped = {}, 0
    for case in _shared_cases(trainings):
        figures = {column: [evaluation.cases[case].organs[column] for evaluation in evaluations] for column in columns}
        dropped += sum(0 < len(known(seed.dice for seed in organ)) < len(organ) for organ in figures.values())
        organs = {column: _mean_figures(organ) for column, organ in figures.items()}
        cases[case] = replace(evaluations[0].cases[case], organs=organs)
    note = (
        f"{dropped} Dice value(s), each a case's organ, that not every one of the {len(trainings)} seeds has are left "
        "out of the mean over seeds"
    )
    evaluation = replace(evaluations[0], cases=cases, columns=columns)
    return replace(trainings[0], name=name, evaluation=evaluation, seed=None, notes=(note,) if dropped else ())


def _mean_figures(figures: Sequence[OrganFigures]) -> OrganFigures:
    """Return the mean over seeds: NaN where one has no value, None where one was not measured."""
    common = [name for name in METRICS if all(getattr(seed, name) is not None for seed in figures)]
    return OrganFigures(**{name: fmean(getattr(seed, name) for seed in figures) for name in common})
