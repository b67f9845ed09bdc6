"""A folder of predictions against a folder of labels. One broken case costs that case only."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unetr_nnunet.evaluation.case import CaseResult, ScoredColumns, evaluate_case
from unetr_nnunet.evaluation.case_metrics import METRICS
from unetr_nnunet.evaluation.protocols import DEFAULT_PROTOCOL, Protocol
from unetr_nnunet.evaluation.summary import summarise
from unetr_nnunet.evaluation.tolerances import DEFAULT_TOLERANCE, tolerances_mm
from unetr_nnunet.images.label_files import Pairing, fingerprint, pair_cases
from unetr_nnunet.nnunet.label_table import LabelTable, find_label_table

COSTS_ITS_CASE = (ValueError, OSError, RuntimeError, MemoryError, TypeError, LookupError, ArithmeticError)
"""Errors that one case may raise while the others are scored."""


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        results: its figures under each protocol, or why there are none.
        sha256: of both files as they were scored; empty where they cannot be read.
    """

    results: list[CaseResult] | str
    sha256: dict[str, str]


def evaluate_folder(
    predictions: Path,
    labels: Path,
    *,
    protocol: Protocol = DEFAULT_PROTOCOL,
    tolerance: str = DEFAULT_TOLERANCE,
    resample: bool = False,
    workers: int = 1,
    progress: bool = False,
) -> dict[str, Any]:
    """Score every case that is in both folders.

    Args:
        predictions: folder of label maps.
        labels: folder of label maps, joined by name (see ``pair_cases``).
        protocol: which organs are scored, where, and what an absent one scores.
        tolerance: name of the surface distances that count as no error (see ``tolerances``).
        resample: bring a prediction on another grid to the label's, instead of refusing it.
        workers: cases read and scored at once.
        progress: show a progress bar on stderr.

    Returns:
        The content of ``metrics.json``: ``predictions``, ``labels``; ``label_source``, ``label_ids``, ``not_scored``,
        ``ignore_label`` (see ``LabelTable``); ``protocol`` (``name``, ``statement``, ``source``), ``rule``,
        ``tolerance`` (``name`` and ``mm`` by column); ``organs`` and ``foreground_mean`` (see ``summarise``);
        ``metrics``, the names of those in ``cases``; by case ``cases`` (values by column and metric, see
        ``case_metrics``), ``files`` (``prediction``, ``label``), ``sha256`` (of both files, also of refused cases),
        ``grids`` (see ``CaseResult``) and ``resampled`` (those only that were); and what was not scored: ``refused``
        (reason by case), ``without_prediction``, ``without_label``.

    Raises:
        ValueError: a folder is missing or empty, both are the same, no case is in both, ``dataset.json`` is wrong, or
            the labels lack an organ of the protocol.
    """
    options = {"tolerance": tolerance, "resample": resample, "workers": workers, "progress": progress}
    return evaluate_protocols(predictions, labels, [protocol], **options)[0][0]


def evaluate_protocols(
    predictions: Path, labels: Path, protocols: Sequence[Protocol], **options: Any
) -> tuple[list[dict[str, Any]], list[str]]:
    """Score every case that is in both folders under several protocols, reading each file once.

    Args:
        predictions: folder of label maps.
        labels: folder of label maps.
        protocols: which to apply.
        options: those of ``evaluate_folder``.

    Returns:
        For each protocol what ``evaluate_folder`` returns; and why the others could not be applied.

    Raises:
        ValueError: as ``evaluate_folder``; of the protocols, where none can be applied.
    """
    pairing, table = pair_cases(predictions, labels), find_label_table(predictions, labels)
    possible, impossible = [], []
    for protocol in protocols:
        try:
            protocol.columns_of(table)
        except ValueError as error:
            impossible.append(str(error))
        else:
            possible.append(protocol)
    if not possible:
        raise ValueError("; ".join(impossible))
    folders = {"predictions": str(predictions), "labels": str(labels)}
    return [folders | each for each in evaluate_pairs(pairing, table, possible, **options)], impossible


def evaluate_pairs(
    pairing: Pairing,
    table: LabelTable,
    protocols: Sequence[Protocol],
    *,
    tolerance: str = DEFAULT_TOLERANCE,
    resample: bool = False,
    workers: int = 1,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Score pairs of files under several protocols, reading each file once.

    Returns:
        For each protocol what ``evaluate_folder`` returns, without ``predictions`` and ``labels``.

    Raises:
        ValueError: the labels lack an organ of a protocol, or an argument is wrong.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; at least 1 is needed")
    columns = [protocol.columns_of(table) for protocol in protocols]
    wanted = [
        ScoredColumns(protocol, each, tolerances_mm(tolerance, each))
        for protocol, each in zip(protocols, columns, strict=True)
    ]

    def outcome(pair: tuple[Path, Path]) -> Outcome:
        sha256: dict[str, str] = {}
        try:
            sha256 = fingerprint(pair)  # before they are read: what replaces them meanwhile has another
            return Outcome(evaluate_case(*pair, table, wanted, resample), sha256)
        except COSTS_ITS_CASE as error:
            return Outcome(str(error) or type(error).__name__, sha256)

    pool = ThreadPoolExecutor(workers)
    try:
        outcomes: Iterable[Outcome] = pool.map(outcome, pairing.pairs.values())
        bar = tqdm(outcomes, total=len(pairing.pairs), desc="evaluate", unit="case", disable=not progress)
        by_case = dict(zip(pairing.pairs, bar, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)  # on Ctrl-C do not score the rest first
    return [_gather(each, index, tolerance, table, pairing, by_case) for index, each in enumerate(wanted)]


def _gather(
    scored: ScoredColumns, index: int, tolerance: str, table: LabelTable, pairing: Pairing, outcomes: dict[str, Outcome]
) -> dict[str, Any]:
    """Return one protocol's evaluation."""
    refused = {case: outcome.results for case, outcome in outcomes.items() if isinstance(outcome.results, str)}
    results = {case: each.results[index] for case, each in outcomes.items() if not isinstance(each.results, str)}
    cases = {case: result.metrics for case, result in results.items()}
    found = {name for case in cases.values() for column in case.values() for name in column}
    rule = scored.protocol.rule
    return {
        "label_source": table.source,
        "label_ids": table.organs,
        "not_scored": table.not_scored,
        "ignore_label": table.ignore_label,
        "protocol": scored.protocol.description(),
        "rule": {**asdict(rule), "statement": rule.statement()},
        "tolerance": {"name": tolerance, "mm": dict(scored.tolerances_mm)},
        "metrics": [name for name in METRICS if name in found],
        **summarise(cases, scored.columns),
        "cases": cases,
        "files": {
            case: {"prediction": str(prediction.absolute()), "label": str(label.absolute())}
            for case, (prediction, label) in pairing.pairs.items()
            if case in cases
        },
        "sha256": {case: outcome.sha256 for case, outcome in outcomes.items()},
        "grids": {case: result.grid for case, result in results.items()},
        "resampled": {case: result.resampled for case, result in results.items() if result.resampled},
        "refused": pairing.ambiguous | refused,
        "without_prediction": pairing.without_prediction,
        "without_label": pairing.without_label,
    }
