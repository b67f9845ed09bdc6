"""Score a folder of predictions against a folder of labels. A bad file fails only its own case."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypedDict, Unpack

from tqdm import tqdm

from unetr_nnunet.evaluation.case import ScoredColumns, evaluate_case
from unetr_nnunet.evaluation.figures import CaseFigures, Evaluation
from unetr_nnunet.evaluation.protocols import DEFAULT_PROTOCOL, DEFAULT_TOLERANCE, Protocol, tolerances_mm
from unetr_nnunet.images.files import Pairing, fingerprint, pair_cases
from unetr_nnunet.nnunet.label_table import LabelTable, find_label_table

COSTS_ITS_CASE = (ValueError, OSError, RuntimeError, MemoryError, TypeError, LookupError, ArithmeticError)
"""Errors that one case may raise while the others are scored."""


class Options(TypedDict, total=False):
    """How to score.

    Attributes:
        tolerance: name of the surface distances that count as no error (see ``tolerances_mm``).
        resample: bring a prediction on another grid to the label's, instead of refusing it.
        workers: cases read and scored at once.
        progress: show a progress bar on stderr.
    """

    tolerance: str
    resample: bool
    workers: int
    progress: bool


def evaluate_folder(
    predictions: Path, labels: Path, *, protocol: Protocol = DEFAULT_PROTOCOL, **options: Unpack[Options]
) -> Evaluation:
    """Score every case that is in both folders.

    Args:
        predictions: folder of label maps.
        labels: folder of label maps, joined by name (see ``pair_cases``).
        protocol: which organs are scored, where, and what an absent one scores.
        options: how to score.

    Raises:
        ValueError: a folder is missing or empty, both are the same, no case is in both, ``dataset.json`` is wrong, or
            the labels lack an organ of the protocol.
    """
    return evaluate_protocols(predictions, labels, [protocol], **options)[0][0]


def evaluate_protocols(
    predictions: Path, labels: Path, protocols: Sequence[Protocol], **options: Unpack[Options]
) -> tuple[list[Evaluation], list[str]]:
    """Score every case that is in both folders under several protocols, reading each file once.

    Returns:
        The evaluation under each protocol; and why the other protocols could not be applied.

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
    evaluations = evaluate_pairs(pairing, table, possible, **options)
    return [
        replace(evaluation, predictions=str(predictions), labels=str(labels)) for evaluation in evaluations
    ], impossible


def evaluate_pairs(
    pairing: Pairing, table: LabelTable, protocols: Sequence[Protocol], **options: Unpack[Options]
) -> list[Evaluation]:
    """Score pairs of files under several protocols, reading each file once.

    Returns:
        The evaluation under each protocol, without the names of the folders.

    Raises:
        ValueError: the labels lack an organ of a protocol, or an option is wrong.
    """
    workers, tolerance = options.get("workers", 1), options.get("tolerance", DEFAULT_TOLERANCE)
    if workers < 1:
        raise ValueError(f"workers is {workers}; at least 1 is needed")
    columns = [protocol.columns_of(table) for protocol in protocols]
    scored = [
        ScoredColumns(protocol, its_columns, tolerances_mm(tolerance, its_columns))
        for protocol, its_columns in zip(protocols, columns, strict=True)
    ]

    sha256: dict[str, dict[str, str]] = {}

    def score(case: str) -> list[CaseFigures] | str:
        """Return a case's figures under each protocol, or why it was not scored."""
        pair = pairing.pairs[case]
        try:
            sha256[case] = {}
            sha256[case] = fingerprint(pair)  # before they are read: what replaces them meanwhile has another
            return evaluate_case(*pair, table, scored, options.get("resample", False))
        except COSTS_ITS_CASE as error:
            return str(error) or type(error).__name__

    pool = ThreadPoolExecutor(workers)
    try:
        outcomes = pool.map(score, pairing.pairs)
        hidden = not options.get("progress", False)
        bar = tqdm(outcomes, total=len(pairing.pairs), desc="evaluate", unit="case", disable=hidden)
        by_case = dict(zip(pairing.pairs, bar, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)  # on Ctrl-C do not score the rest first
    refused = {case: outcome for case, outcome in by_case.items() if isinstance(outcome, str)}
    figures = {case: outcome for case, outcome in by_case.items() if not isinstance(outcome, str)}
    return [
        Evaluation(
            predictions="",
            labels="",
            label_source=table.source,
            label_ids=table.organs,
            ignore_label=table.ignore_label,
            protocol=applied.protocol.description(),
            columns=tuple(applied.columns),
            cases={case: by_protocol[index] for case, by_protocol in figures.items()},
            rule={**asdict(applied.protocol.rule), "statement": applied.protocol.rule.statement()},
            tolerance=tolerance,
            tolerances_mm=dict(applied.tolerances_mm),
            not_scored=table.not_scored,
            sha256={case: sha256[case] for case in pairing.pairs},
            refused=pairing.ambiguous | refused,
            without_prediction=pairing.without_prediction,
            without_label=pairing.without_label,
        )
        for index, applied in enumerate(scored)
    ]
