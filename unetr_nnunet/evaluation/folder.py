"""A folder of predictions against a folder of labels. One broken case costs that case only."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unetr_nnunet.evaluation.absent_organs import DEFAULT_RULE, AbsentOrganRule
from unetr_nnunet.evaluation.label_files import pair_cases, read_label_map
from unetr_nnunet.evaluation.label_table import LabelTable, find_label_table
from unetr_nnunet.evaluation.overlap import organ_overlap
from unetr_nnunet.evaluation.summary import summarise
from unetr_nnunet.image_grid import grid_differences


def evaluate_folder(
    predictions: Path, labels: Path, *, rule: AbsentOrganRule = DEFAULT_RULE, workers: int = 1, progress: bool = False
) -> dict[str, Any]:
    """Score every case that is in both folders.

    Args:
        predictions: folder of label maps.
        labels: folder of label maps, joined by name (see ``pair_cases``).
        rule: what an absent organ scores.
        workers: cases read and scored at once, in threads.
        progress: show a progress bar on stderr.

    Returns:
        The content of ``metrics.json``: ``predictions``, ``labels``, ``label_source``, ``label_ids``, ``ignore_label``,
        ``rule``; ``organs`` and ``foreground_mean`` (see ``summarise``); ``cases`` (see ``organ_overlap``); and what
        was not scored: ``refused`` (reason by case), ``without_prediction``, ``without_label``.

    Raises:
        ValueError: a folder is missing or empty, both are the same, no case is in both, or ``dataset.json`` is wrong.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; at least 1 is needed")
    pairing = pair_cases(predictions, labels)
    table = find_label_table(predictions, labels)

    def outcome(pair: tuple[Path, Path]) -> dict[str, dict[str, float]] | str:
        try:
            return evaluate_case(*pair, table, rule)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            return str(error) or type(error).__name__

    pool = ThreadPoolExecutor(workers)  # threads will do: reading and counting release the interpreter's lock
    try:
        outcomes = pool.map(outcome, pairing.pairs.values())
        bar = tqdm(outcomes, total=len(pairing.pairs), desc="evaluate", unit="case", disable=not progress)
        by_case = dict(zip(pairing.pairs, bar, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)  # on Ctrl-C do not score the rest first
    cases = {case: result for case, result in by_case.items() if not isinstance(result, str)}
    refused = pairing.ambiguous | {case: result for case, result in by_case.items() if isinstance(result, str)}
    return {
        "predictions": str(predictions),
        "labels": str(labels),
        "label_source": table.source,
        "label_ids": table.organs,
        "ignore_label": table.ignore_label,
        "rule": {**asdict(rule), "statement": rule.statement()},
        **summarise(cases, table.organs),
        "cases": cases,
        "refused": refused,
        "without_prediction": pairing.without_prediction,
        "without_label": pairing.without_label,
    }


def evaluate_case(
    prediction: Path, label: Path, table: LabelTable, rule: AbsentOrganRule
) -> dict[str, dict[str, float]]:
    """Score one pair of files; see ``organ_overlap`` for what is returned.

    Raises:
        ValueError: a file cannot be read or is no label map, the grids differ, or a label is not in the table.
    """
    predicted_image, predicted = read_label_map(prediction)
    true_image, truth = read_label_map(label)
    differences = grid_differences(predicted_image, true_image)
    if differences:
        raise ValueError(
            f"prediction and label lie on different grids: {'; '.join(differences)} ({prediction.name}, {label.name}); "
            "nothing is resampled, predict on the image that the label belongs to"
        )
    return organ_overlap(truth, predicted, table.organs, rule, table.ignore_label)
