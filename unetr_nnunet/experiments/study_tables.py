"""Write the tables of a study: training loss, share of organ voxels labelled correctly, and Dice with its interval.

The first two columns have the form of the study that this project started from, whose "accuracy" is not defined; here
it is the share of all organ voxels of the validation cases that have their organ's label. Dice is over all validation
cases of all folds and seeds, the interval a bootstrap over cases and seeds.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.evaluation.metrics import DICE, number
from unetr_nnunet.evaluation.statistics import describe_overall, mean
from unetr_nnunet.experiments.study import Model, Study, Table, without_seed
from unetr_nnunet.nnunet.summary import FILE_NAME, read_summary
from unetr_nnunet.nnunet.training_log import read_fold_logs

HEADER = ("training loss", "accuracy", "mean Dice", "95 % interval", "cases", "seeds")


def write_tables(study: Study, results: Path, output: Path) -> None:
    """Write the study's tables as Markdown; a study that names none gets one of all its models.

    Args:
        study: the study.
        results: the data set's folder in ``nnUNet_results``.
        output: the file.
    """
    trainers = dict.fromkeys(without_seed(model.trainer) for model in study.models)
    tables = study.tables or (Table("Models", tuple((trainer, trainer) for trainer in trainers)),)
    lines = []
    for table in tables:
        lines += [f"### {table.title}", "", f"| | {' | '.join(HEADER)} |", "|---|" + "---|" * len(HEADER)]
        for label, row in table.rows:
            lines.append(f"| {label} | {' | '.join(_row(study.row_models(row), study.folds, results))} |")
        lines.append("")
    lines.append(
        "Training loss: of the last epoch, mean over folds and seeds. Accuracy: share of the organ voxels of the "
        "validation cases that have their organ's label. Dice: mean over organs of the mean over validation cases of "
        f"{len(study.folds)} fold(s), and over seeds; the interval is a bootstrap over cases and seeds."
    )
    with atomic_path(output) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _row(models: Sequence[Model], folds: Sequence[int], results: Path) -> tuple[str, ...]:
    losses: list[float] = []
    right = true = 0.0
    trainings: list[dict[str, dict[str, float]]] = []
    for model in models:
        folder = results / model.identifier
        for log in read_fold_logs(folder):
            if log.fold in map(str, folds):
                losses += [value for _, value in log.curve("train_loss")[-1:]]
        trainings.append({})
        for fold in folds:
            path = folder / f"fold_{fold}" / "validation" / FILE_NAME
            for case in read_summary(path).metric_per_case if path.is_file() else []:
                for organ, figures in case.metrics.items():
                    right, true = right + figures.TP, true + figures.n_ref
                    trainings[-1].setdefault(organ, {})[Path(case.reference_file).name] = figures.Dice
    organs = dict.fromkeys(organ for each in trainings for organ in each)
    scores = {organ: _mean_over_trainings([each.get(organ, {}) for each in trainings]) for organ in organs}
    dice = describe_overall(scores, trainings)
    return (
        number(mean(losses), 4),
        DICE.text(right / true if true else math.nan),
        DICE.text(dice.mean),
        DICE.interval(dice.low, dice.high),
        str(dice.cases),
        str(len(models)),
    )


def _mean_over_trainings(trainings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    cases = dict.fromkeys(case for each in trainings for case in each)
    return {case: fmean(each[case] for each in trainings if case in each) for case in cases}
