"""Turn nnU-Net's ``summary.json`` into an evaluation, and an evaluation into ``summary.json``."""

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import fields, replace
from pathlib import Path
from statistics import fmean

from unetr_nnunet.evaluation.figures import CaseFigures, Evaluation
from unetr_nnunet.evaluation.metrics import OrganFigures
from unetr_nnunet.evaluation.overlap import counted_figures
from unetr_nnunet.evaluation.protocols import DEFAULT_PROTOCOL
from unetr_nnunet.evaluation.statistics import mean
from unetr_nnunet.images.files import stem
from unetr_nnunet.nnunet.label_table import LabelTable, find_label_table, read_label_table
from unetr_nnunet.nnunet.summary import LabelFigures, Summary, SummaryCase, read_summary, write_summary

WRITER = "unetr_nnunet"
LEVELS = 3
"""A ``dataset.json`` lies so many folders above ``fold_0/validation/summary.json``."""


def read_nnunet_evaluation(path: Path) -> Evaluation:
    """Read what nnU-Net measured: overlap only, under its own protocol.

    Args:
        path: ``summary.json``; organs are named after the ``dataset.json`` beside it or above it, else BTCV's.

    Raises:
        ValueError: the file is not such a summary, or its labels are not in the table.
    """
    table = _label_table(path.parent)
    cases: dict[str, CaseFigures] = {}
    summary = read_summary(path)
    for entry in summary.metric_per_case:
        prediction = Path(entry.prediction_file)
        case = stem(prediction)
        if case in cases:
            raise ValueError(f"{path} has the case {case} twice; score the masks again")
        missing = [name for name, label in table.organs.items() if str(label) not in entry.metrics]
        if missing:
            raise ValueError(
                f"{path} has no figures of {', '.join(missing)} in {case}, which {table.source} names; put the right "
                "dataset.json beside it, or score the masks"
            )
        organs = {name: _organ_figures(entry.metrics[str(label)]) for name, label in table.organs.items()}
        beside = path.parent / prediction.name  # results move: the mask beside the summary is meant
        file = beside if beside.is_file() else prediction
        cases[case] = CaseFigures(organs, str(file), entry.reference_file)
    rule = DEFAULT_PROTOCOL.rule
    return Evaluation(
        predictions=str(path.parent),
        labels=next((str(Path(case.label).parent) for case in cases.values()), ""),
        label_source=table.source,
        label_ids=table.organs,
        ignore_label=table.ignore_label,
        protocol=DEFAULT_PROTOCOL.description(),
        columns=tuple(table.organs),
        cases=cases,
        rule={"name": rule.name, "statement": rule.statement()},
    )


def _organ_figures(figures: LabelFigures) -> OrganFigures:
    voxels = (int(figures.n_ref), int(figures.n_pred), int(figures.TP))
    return replace(counted_figures(*voxels, DEFAULT_PROTOCOL.rule), dice=figures.Dice, iou=figures.IoU)


def _label_table(folder: Path) -> LabelTable:
    for place in (folder, *folder.resolve().parents)[:LEVELS]:
        if (place / "dataset.json").is_file():
            return read_label_table(place / "dataset.json")
    return find_label_table(folder, folder)


def offer_nnunet_summary(evaluation: Evaluation, path: Path) -> bool:
    """Write ``summary.json`` unless nnU-Net wrote one there, or it would not be the one nnU-Net would write.

    nnU-Net takes a file that is there for that of the whole folder. So one is written under its own protocol only, and
    only where every prediction and label was scored, on its own grid.

    Args:
        evaluation: of the folder.
        path: the file.

    Returns:
        Whether it was written.
    """
    if evaluation.protocol.name != DEFAULT_PROTOCOL.name or not _is_ours_or_absent(path):
        return False
    if evaluation.refused or evaluation.without_label or evaluation.resampled or evaluation.not_scored:
        path.unlink(missing_ok=True)  # of an earlier run: no longer true
        return False
    labels = {organ: str(label) for organ, label in evaluation.label_ids.items()}
    cases = [_summary_case(case, labels) for case in evaluation.cases.values()]
    means = {label: _over([case.metrics[label] for case in cases], mean) for label in labels.values()}
    write_summary(Summary(cases, WRITER), means, _over(means.values(), fmean), path)
    return True


def _over(figures: Collection[LabelFigures], average: Callable[[Iterable[float]], float]) -> LabelFigures:
    names = [field.name for field in fields(LabelFigures)]
    return LabelFigures(**{name: average(getattr(label, name) for label in figures) for name in names})


def _is_ours_or_absent(path: Path) -> bool:
    if not path.exists():
        return True
    try:
        return read_summary(path).written_by == WRITER
    except ValueError:
        return False


def _summary_case(case: CaseFigures, labels: dict[str, str]) -> SummaryCase:
    scored_voxels = case.grid.scored_voxels if case.grid else 0
    metrics = {labels[organ]: _label_figures(figures, scored_voxels) for organ, figures in case.organs.items()}
    return SummaryCase(case.prediction, case.label, metrics)


def _label_figures(figures: OrganFigures, scored_voxels: int) -> LabelFigures:
    predicted, true = int(figures.prediction_voxels), int(figures.truth_voxels)
    overlap = int(figures.overlap_voxels or 0)
    return LabelFigures(
        Dice=figures.dice,
        IoU=math.nan if figures.iou is None else figures.iou,
        FP=predicted - overlap,
        TP=overlap,
        FN=true - overlap,
        TN=scored_voxels - (predicted + true - overlap),
        n_pred=predicted,
        n_ref=true,
    )
