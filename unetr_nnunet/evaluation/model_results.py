"""Read the figures of one model from a trainer folder, a folder of masks, or a file of figures."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Unpack

from unetr_nnunet.evaluation.figures import Evaluation
from unetr_nnunet.evaluation.folder import Options
from unetr_nnunet.evaluation.metrics_file import read_evaluation
from unetr_nnunet.evaluation.nnunet_summary import read_nnunet_evaluation
from unetr_nnunet.evaluation.predicted_folders import evaluate_folders
from unetr_nnunet.evaluation.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from unetr_nnunet.images.files import stem
from unetr_nnunet.nnunet import summary
from unetr_nnunet.nnunet.folders import (
    ALL,
    enclosing_model,
    fold_folders,
    model_name,
    seed_of,
    validation_cases,
    validation_folders,
)


@dataclass(frozen=True)
class ModelResults:
    """One model's figures under one protocol, and where they come from.

    Attributes:
        name: of the model, as shown.
        evaluation: all folds together.
        fold_of: fold ("0", "1", ...) whose validation holds the case; empty where the cases are no validation cases.
        seed: of the training, None where the trainer's name does not tell.
        folder: what was read.
        predictions: mask of each scored case, if the file exists.
        labels: true label map of each scored case, if the file exists.
        notes: what a reader of the figures must know: missing folds, figures taken from an earlier evaluation.
    """

    name: str
    evaluation: Evaluation
    fold_of: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    folder: Path = Path()
    predictions: Mapping[str, Path] = field(default_factory=dict)
    labels: Mapping[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_model(
    folder: Path,
    labels: Path | None = None,
    *,
    name: str | None = None,
    protocol: str = DEFAULT_PROTOCOL.name,
    **options: Unpack[Options],
) -> ModelResults:
    """Read one model's figures; masks are scored where no finished ``metrics.json`` holds their figures.

    Args:
        folder: a trainer's folder (the validation of all its folds together), one of its folds, a cross-validation or
            an ensemble of nnU-Net's, any folder of masks; or a ``metrics.json`` or ``summary.json``, whose figures are
            then all there is.
        labels: folder of true label maps; None to look where nnU-Net keeps those of the data set, and in what an
            earlier evaluation of the masks recorded.
        name: for readers; None for the trainer's name or the folder's.
        protocol: name of the protocol.
        options: how to score.

    Raises:
        ValueError: nothing there can be read, not one case can be scored, or not under this protocol.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    name = name or model_name(folder.parent if folder.is_file() else folder.absolute())
    if folder.is_file():
        evaluation = _read_file(folder, protocol)
        return _results(name, folder, evaluation, _folds_of_siblings(folder, evaluation.cases), ())
    folds, notes = _fold_sources(folder)
    sources = folds or {"": folder}
    evaluation, fold_of, said = evaluate_folders(folder, sources, labels, PROTOCOLS[protocol], **options)
    if folds:
        expected, missing = _expected_cases(folder, folds)
        scored = evaluation.cases.keys() | evaluation.refused.keys()
        evaluation = replace(evaluation, without_prediction=[case for case in expected if case not in scored])
        notes += missing
    else:
        fold_of = _folds_of_siblings(folder, evaluation.cases)
    return _results(name, folder, evaluation, fold_of, (*notes, *said))


def _results(
    name: str, folder: Path, evaluation: Evaluation, fold_of: Mapping[str, str], notes: tuple[str, ...]
) -> ModelResults:
    if not evaluation.cases:
        reasons = [f"the first reason, of {case}: {why}" for case, why in evaluation.refused.items()]
        raise ValueError("; ".join([f"{folder}: no case could be scored", *reasons[:1]]))
    masks = {case: path for case, figures in evaluation.cases.items() if (path := Path(figures.prediction)).is_file()}
    labels = {case: path for case, figures in evaluation.cases.items() if (path := Path(figures.label)).is_file()}
    folds = {case: fold for case, fold in fold_of.items() if case in evaluation.cases}
    seed = seed_of(folder.absolute().parent if folder.is_file() else folder.absolute())
    return ModelResults(name, evaluation, folds, seed, folder, masks, labels, notes)


def _read_file(path: Path, protocol: str) -> Evaluation:
    evaluation = read_nnunet_evaluation(path) if path.name == summary.FILE_NAME else read_evaluation(path)
    if evaluation.protocol.name != protocol:
        its = evaluation.protocol.name
        raise ValueError(
            f"{path} follows the protocol {its!r}, not {protocol!r}: ask for {its!r}, or score the masks again "
            f"with `unetr_nnunet evaluate --protocol {protocol}`"
        )
    return evaluation


def _fold_sources(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the validation folders by fold, and what to say of them; none where the folder is no model's."""
    if not folder.is_dir():
        raise ValueError(f"{folder} does not exist")
    folds = validation_folders(folder)
    begun = [fold for fold in fold_folders(folder) if fold not in folds]
    if begun and not folds:
        raise ValueError(
            f"no fold of {folder} has a validation folder yet; finish a training, or write one with "
            "`nnUNetv2_train ... --val`"
        )
    notes = [f"fold {fold} has no validation (not finished?) and is left out" for fold in begun if fold != ALL]
    if folds.keys() == {ALL}:
        notes.append('fold "all" is scored on the cases it was trained on: these figures say nothing of new cases')
    elif folds.pop(ALL, None):
        notes.append('fold "all" is left out: its validation cases are those it was trained on')
    return folds, notes


def _expected_cases(folder: Path, folds: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the cases that these folds should have predicted, and what to say of the others."""
    try:
        splits = validation_cases(folder)
    except ValueError as error:
        return [], [str(error)]
    if ALL in folds:  # it is validated on all cases
        folds = splits
    expected = sorted({case for fold in folds for case in splits.get(fold, [])})
    others = [fold for fold in splits if fold not in folds]
    if not others or not fold_folders(folder):
        return expected, []
    unseen = sum(len(splits[fold]) for fold in others)
    total = sum(map(len, splits.values()))
    missing = f"{'folds' if len(others) > 1 else 'fold'} {', '.join(others)} of {len(splits)} not there"
    return expected, [f"{missing}: {unseen} of {total} cases are not scored"]


def _folds_of_siblings(folder: Path, cases: Iterable[str]) -> dict[str, str]:
    """Return the folds of cases that were gathered from folds: a cross-validation's, or an ensemble's.

    The masks of the model around the folder tell, else the splits of its data set. Cases of a test set have none.
    """
    model = enclosing_model(folder.absolute())
    try:
        splits = validation_cases(folder)
    except ValueError:
        splits = {}
    fold_of = {case: fold for fold, members in splits.items() for case in members}
    for fold, validation in (validation_folders(model) if model else {}).items():
        if fold != ALL:
            fold_of.update({stem(path): fold for path in validation.iterdir()})
    return {case: fold_of[case] for case in cases if case in fold_of}
