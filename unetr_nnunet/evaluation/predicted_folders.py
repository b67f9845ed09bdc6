"""One evaluation of the masks in several folders, such as the validations of all folds.

Finished evaluations are taken as they are, others are computed, and where there are no masks or no labels the figures
of an earlier evaluation stand in: ours, or nnU-Net's own.
"""

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from unetr_nnunet.evaluation import metrics_file
from unetr_nnunet.evaluation.figures import Evaluation, merge
from unetr_nnunet.evaluation.folder import Options, evaluate_pairs
from unetr_nnunet.evaluation.metrics_file import read_evaluation, still_holds
from unetr_nnunet.evaluation.nnunet_summary import read_nnunet_evaluation
from unetr_nnunet.evaluation.protocols import Protocol
from unetr_nnunet.images.label_files import Pairing, find_label_files, pair_cases
from unetr_nnunet.nnunet import summary
from unetr_nnunet.nnunet.folders import label_folders, model_folder
from unetr_nnunet.nnunet.label_table import LabelTable, find_label_table, read_label_table, without_absent

READERS = {metrics_file.FILE_NAME: read_evaluation, summary.FILE_NAME: read_nnunet_evaluation}
"""How to read figures that an earlier evaluation left beside the masks, best first."""


@dataclass(frozen=True)
class Source:
    """What one folder gives: a finished evaluation, or pairs of files to score."""

    finished: Evaluation | None
    pairing: Pairing
    labels: str
    table: LabelTable
    note: str | None = None

    @property
    def cases(self) -> Collection[str]:
        """Cases that the folder holds."""
        return self.finished.cases if self.finished else self.pairing.pairs


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
    read: dict[str, Source] = {}
    problems: list[str] = []
    for fold, path in sources.items():
        try:
            read[fold] = _read_source(folder, path, labels, protocol)
        except ValueError as error:
            problems.append(str(error))
    if not read:
        raise ValueError(problems[0])
    twice = _in_several_folds(read)
    evaluations = [source.finished.without(twice) for source in read.values() if source.finished]
    unscored = [source for source in read.values() if not source.finished]
    if unscored:
        pairing, table = _join((source.pairing for source in unscored), twice), unscored[0].table
        (computed,) = evaluate_pairs(pairing, table, [protocol], **options)
        evaluations.append(replace(computed, labels=unscored[0].labels))
    merged = merge(evaluations)
    evaluation = replace(merged, predictions=str(folder), refused={**merged.refused, **twice})
    fold_of = {case: fold for fold, source in read.items() for case in source.cases if fold and case not in twice}
    return evaluation, fold_of, [*problems, *(source.note for source in read.values() if source.note)]


def _in_several_folds(sources: Mapping[str, Source]) -> dict[str, str]:
    """Return the cases that more than one fold holds, and why they are not scored."""
    folds_of = defaultdict(list)
    for fold, source in sources.items():
        for case in source.cases:
            folds_of[case].append(fold)
    return {
        case: f"folds {', '.join(folds)} all hold a prediction; were the splits changed in between?"
        for case, folds in sorted(folds_of.items())
        if len(folds) > 1
    }


def _join(pairings: Iterable[Pairing], left_out: Mapping[str, str]) -> Pairing:
    joined = Pairing({}, {}, [], [])
    for pairing in pairings:
        joined.pairs.update({case: pair for case, pair in pairing.pairs.items() if case not in left_out})
        joined.ambiguous.update(pairing.ambiguous)
        joined.without_prediction.extend(pairing.without_prediction)
        joined.without_label.extend(pairing.without_label)
    return joined


def _read_source(folder: Path, source: Path, labels: Path | None, protocol: Protocol) -> Source:
    try:
        find_label_files(source)
        pairing, place = _pair(folder, source, labels)
    except ValueError as error:
        return _figures_only(source, protocol, error)
    table = _label_table(folder, source, place)
    finished, note = None, None
    path = source / metrics_file.FILE_NAME
    if path.is_file():
        try:
            evaluation = read_evaluation(path)
            finished = evaluation if still_holds(evaluation, pairing.pairs, table, protocol.name) else None
        except ValueError as error:
            note = f"{error} (the masks were scored again)"
    return Source(finished, pairing, str(place), table, note)


def _pair(folder: Path, source: Path, labels: Path | None) -> tuple[Pairing, Path]:
    """Join masks with labels: those given, else the first of the places that hold labels of these cases."""
    if labels is not None:
        return pair_cases(source, labels), labels
    for place in (*label_folders(folder.absolute()), *_recorded_labels(source)):
        try:
            return pair_cases(source, place), place
        except ValueError:
            continue
    raise ValueError(f"no true labels are found for the masks in {source}; name their folder (--labels)")


def _recorded_labels(source: Path) -> list[Path]:
    """Return the folders of labels that earlier evaluations of these masks name, as far as they still exist."""
    recorded = []
    with contextlib.suppress(ValueError):
        recorded.append(Path(read_evaluation(source / metrics_file.FILE_NAME).labels))
    with contextlib.suppress(ValueError, IndexError):
        cases = summary.read_summary(source / summary.FILE_NAME).metric_per_case
        recorded.append(Path(cases[0].reference_file).parent)
    return [place for place in recorded if place.is_dir()]


def _figures_only(source: Path, protocol: Protocol, reason: ValueError) -> Source:
    """Take the figures that an earlier evaluation left, where the masks cannot be scored.

    Raises:
        ValueError: ``reason``, where there are none under this protocol.
    """
    damage = ""
    for name, read in READERS.items():
        path = source / name
        if not path.is_file():
            continue
        try:
            evaluation = read(path)
        except ValueError as error:
            damage += f"; {error}"
            continue
        if evaluation.protocol.name == protocol.name:
            note = f"{reason}; the figures are those of {path}"
            table = LabelTable(dict(evaluation.label_ids), evaluation.ignore_label, evaluation.label_source)
            return Source(evaluation, Pairing({}, {}, [], []), evaluation.labels, table, note)
    raise ValueError(f"{reason}{damage}") from reason


def _label_table(folder: Path, source: Path, labels: Path) -> LabelTable:
    for place in (source, folder, model_folder(folder.absolute())):
        if place is not None and (place / "dataset.json").is_file():
            return without_absent(read_label_table(place / "dataset.json"), labels)
    return find_label_table(source, labels)
