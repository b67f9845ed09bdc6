"""Score the masks of several folders, such as the validations of all folds, as one evaluation.

Finished evaluations are taken as they are, others are computed, and where there are no masks or no labels the figures
of an earlier evaluation stand in: ours, or nnU-Net's own.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from unetr_nnunet.evaluation import metrics_file
from unetr_nnunet.evaluation.figures import Evaluation, merge
from unetr_nnunet.evaluation.folder import Options, evaluate_pairs
from unetr_nnunet.evaluation.metrics_file import read_evaluation, still_holds
from unetr_nnunet.evaluation.nnunet_summary import read_nnunet_evaluation
from unetr_nnunet.evaluation.protocols import Protocol
from unetr_nnunet.images.files import Pairing, find_label_files, pair_cases
from unetr_nnunet.nnunet import summary
from unetr_nnunet.nnunet.folders import enclosing_model, label_folders
from unetr_nnunet.nnunet.label_table import LabelTable, find_label_table, read_label_table, without_absent

READERS = {metrics_file.FILE_NAME: read_evaluation, summary.FILE_NAME: read_nnunet_evaluation}
"""How to read figures that an earlier evaluation left beside the masks, best first."""


def evaluate_folders(
    folder: Path, sources: Mapping[str, Path], labels: Path | None, protocol: Protocol, **options: Unpack[Options]
) -> tuple[Evaluation, dict[str, str], list[str]]:
    """Score the masks of several folders as one.

    Args:
        folder: what the user named.
        sources: folders of masks, by fold.
        labels: folder of true label maps; None to find it.
        protocol: how to score.
        options: how to score.

    Returns:
        The evaluation; the fold of each case; and what a reader must know of it.

    Raises:
        ValueError: no source could be read or scored; the message tells why the first could not.
    """
    evaluations: dict[str, Evaluation] = {}
    problems, notes = [], []
    for fold, path in sources.items():
        try:
            evaluations[fold], note = _evaluate(folder, path, labels, protocol, options)
        except ValueError as error:
            problems.append(str(error))
        else:
            notes += [note] if note else []
    if not evaluations:
        raise ValueError(problems[0])
    folds_of: dict[str, list[str]] = {}
    for fold, evaluation in evaluations.items():
        for case in sorted(evaluation.cases.keys() | evaluation.refused.keys()):
            folds_of.setdefault(case, []).append(fold)
    twice = {
        case: f"folds {', '.join(folds)} all hold a prediction; were the splits changed in between?"
        for case, folds in sorted(folds_of.items())
        if len(folds) > 1
    }
    merged = merge([evaluation.without(twice) for evaluation in evaluations.values()])
    evaluation = replace(merged, predictions=str(folder), refused={**merged.refused, **twice})
    fold_of = {case: folds[0] for case, folds in folds_of.items() if folds[0] and case not in twice}
    return evaluation, fold_of, [*problems, *notes]


def _evaluate(
    folder: Path, source: Path, labels: Path | None, protocol: Protocol, options: Options
) -> tuple[Evaluation, str | None]:
    """Return the evaluation of one folder of masks, and what a reader must know of it."""
    try:
        find_label_files(source)
        pairing, place = _pair(folder, source, labels)
    except ValueError as error:
        return _figures_only(source, protocol, error)
    table, note = _label_table(folder, source, place), None
    path = source / metrics_file.FILE_NAME
    if path.is_file():
        try:
            finished = read_evaluation(path)
            if still_holds(finished, pairing.pairs, table, protocol.name):
                return finished, None
        except ValueError as error:
            note = f"{error} (the masks were scored again)"
    (evaluation,) = evaluate_pairs(pairing, table, [protocol], **options)
    return replace(evaluation, predictions=str(source), labels=str(place)), note


def _pair(folder: Path, source: Path, labels: Path | None) -> tuple[Pairing, Path]:
    """Join masks with labels: those given, else the first of the places that hold labels of these cases."""
    if labels is not None:
        return pair_cases(source, labels), labels
    for place in (*label_folders(folder.absolute()), *_recorded_labels(source)):
        try:
            return pair_cases(source, place), place
        except ValueError:
            continue
    raise ValueError(f"no true label maps were found for the masks in {source}: give their folder with --labels")


def _recorded_labels(source: Path) -> list[Path]:
    """Return the folders of labels that earlier evaluations of these masks name, as far as they still exist."""
    recorded = []
    with contextlib.suppress(ValueError):
        recorded.append(Path(read_evaluation(source / metrics_file.FILE_NAME).labels))
    with contextlib.suppress(ValueError, IndexError):
        cases = summary.read_summary(source / summary.FILE_NAME).metric_per_case
        recorded.append(Path(cases[0].reference_file).parent)
    return [place for place in recorded if place.is_dir()]


def _figures_only(source: Path, protocol: Protocol, reason: ValueError) -> tuple[Evaluation, str]:
    """Take the figures that an earlier evaluation left, where the masks cannot be scored.

    Raises:
        ValueError: ``reason``, if no figures are left under this protocol.
    """
    damage = ""
    for name, read in READERS.items():
        path = source / name
        try:
            evaluation = read(path) if path.is_file() else None
        except ValueError as error:
            damage += f"; {error}"
        else:
            if evaluation and evaluation.protocol.name == protocol.name:
                return evaluation, f"{reason}; the figures are those of {path}"
    raise ValueError(f"{reason}{damage}") from reason


def _label_table(folder: Path, source: Path, labels: Path) -> LabelTable:
    for place in (source, folder, enclosing_model(folder.absolute())):
        if place is not None and (place / "dataset.json").is_file():
            return without_absent(read_label_table(place / "dataset.json"), labels)
    return find_label_table(source, labels)
