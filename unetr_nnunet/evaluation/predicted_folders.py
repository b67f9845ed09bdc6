"""One evaluation of the masks in several folders, such as the validations of all folds.

What is finished is taken, what is not is computed, and where there are no masks or no labels the figures that were left
behind stand in: ours, or nnU-Net's own.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetr_nnunet.evaluation.finished_evaluation import merge, read_evaluation, still_holds, without_cases
from unetr_nnunet.evaluation.folder import evaluate_pairs
from unetr_nnunet.evaluation.protocols import DEFAULT_PROTOCOL, Protocol
from unetr_nnunet.evaluation.summary_reader import load_summary, read_summary
from unetr_nnunet.images.label_files import Pairing, find_label_files, pair_cases
from unetr_nnunet.nnunet.folders import label_folders, model_folder
from unetr_nnunet.nnunet.label_table import LabelTable, find_label_table, read_label_table, without_absent

SUMMARY, METRICS = "summary.json", "metrics.json"


@dataclass(frozen=True)
class Source:
    """What one folder gives: a finished evaluation, or pairs of files to score."""

    finished: dict[str, Any] | None
    pairing: Pairing
    labels: str
    table: LabelTable
    note: str | None = None

    @property
    def cases(self) -> set[str]:
        """Cases that the folder holds."""
        return set(self.finished["cases"]) if self.finished else set(self.pairing.pairs)


def evaluate_folders(
    folder: Path,
    sources: Mapping[str, Path],
    labels: Path | None,
    protocol: Protocol,
    *,
    workers: int = 1,
    progress: bool = False,
) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Score the masks of several folders as one.

    Args:
        folder: what the user named.
        sources: folders of masks, by fold.
        labels: folder of true label maps; None to find it.
        protocol: how to score.
        workers: cases scored at once.
        progress: show a progress bar.

    Returns:
        The evaluation (see ``evaluate_folder``); the fold of each case; and what a reader must know of it.

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
    evaluations = [without_cases(source.finished, twice) for source in read.values() if source.finished]
    todo = [source for source in read.values() if not source.finished]
    if todo:
        pairing, table = _join((source.pairing for source in todo), twice), todo[0].table
        computed = evaluate_pairs(pairing, table, [protocol], workers=workers, progress=progress)[0]
        evaluations.append({**computed, "labels": todo[0].labels})
    evaluation = {**merge(evaluations), "predictions": str(folder)}
    evaluation["refused"] |= twice
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
    for each in pairings:
        joined.pairs.update({case: pair for case, pair in each.pairs.items() if case not in left_out})
        joined.ambiguous.update(each.ambiguous)
        joined.without_prediction.extend(each.without_prediction)
        joined.without_label.extend(each.without_label)
    return joined


def _read_source(folder: Path, source: Path, labels: Path | None, protocol: Protocol) -> Source:
    try:
        find_label_files(source)
        pairing, place = _pair(folder, source, labels)
    except ValueError as error:
        return _figures_only(source, protocol, error)
    table = _label_table(folder, source, place)
    finished = None
    note = None
    if (source / METRICS).is_file():
        try:
            found = read_evaluation(source / METRICS)
            finished = found if still_holds(found, pairing.pairs, table, protocol.name) else None
        except ValueError as error:
            note = f"{error} (computed anew)"
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
    """Return the folders of labels that earlier evaluations of these masks name, as far as they are there."""
    recorded = []
    for name, read in ((METRICS, _labels_of_metrics), (SUMMARY, _labels_of_summary)):
        try:
            recorded.append(Path(read(source / name)))
        except (ValueError, KeyError, IndexError, TypeError):
            continue
    return [place for place in recorded if place.is_dir()]


def _labels_of_metrics(path: Path) -> str:
    return str(read_evaluation(path)["labels"])


def _labels_of_summary(path: Path) -> str:
    return str(Path(load_summary(path)["metric_per_case"][0]["reference_file"]).parent)


def _figures_only(source: Path, protocol: Protocol, reason: ValueError) -> Source:
    """Take the figures that an earlier evaluation left, where the masks cannot be scored.

    Raises:
        ValueError: ``reason``, where there are none under this protocol.
    """
    damage = ""
    for name, read in ((METRICS, read_evaluation), (SUMMARY, read_summary)):
        path = source / name
        if not path.is_file() or (name == SUMMARY and protocol != DEFAULT_PROTOCOL):
            continue
        try:
            evaluation = read(path)
        except ValueError as error:
            damage += f"; {error}"
            continue
        if evaluation["protocol"]["name"] == protocol.name:
            note = f"{reason}; the figures are those of {path}"
            table = LabelTable(evaluation["label_ids"], evaluation["ignore_label"], evaluation["label_source"])
            return Source(evaluation, Pairing({}, {}, [], []), evaluation["labels"], table, note)
    raise ValueError(f"{reason}{damage}") from reason


def _label_table(folder: Path, source: Path, labels: Path) -> LabelTable:
    for each in (source, folder, model_folder(folder.absolute())):
        if each is not None and (each / "dataset.json").is_file():
            return without_absent(read_label_table(each / "dataset.json"), labels)
    return find_label_table(source, labels)
