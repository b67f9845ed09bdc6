"""Evaluations that are there already: read ``metrics.json``, judge whether it still holds, put several together."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from unetr_nnunet.evaluation.metric_kinds import figure_read
from unetr_nnunet.evaluation.summary import summarise
from unetr_nnunet.evaluation.tolerances import DEFAULT_TOLERANCE
from unetr_nnunet.images.label_files import fingerprint
from unetr_nnunet.nnunet.label_table import HIGHEST_LABEL, LabelTable

NEEDED = (
    *("predictions", "labels", "label_source", "label_ids", "ignore_label", "protocol", "rule"),
    *("metrics", "organs", "foreground_mean", "cases", "files"),
)
COLLECTED = ("cases", "files", "sha256", "grids", "resampled", "refused")
"""By case, so that several evaluations can be put together."""

WORDS_BY_CASE = ("resampled", "refused")
NEEDED_METRICS = ("dice", "truth_voxels", "prediction_voxels")
"""Those that `summarise` asks of every organ of every case."""

Pairs = Mapping[str, tuple[Path, Path]]


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read a ``metrics.json``; in ``cases`` a missing value becomes NaN again.

    Raises:
        ValueError: it is damaged, or not one that ``unetr_nnunet evaluate`` writes now.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}; run `unetr_nnunet evaluate` again") from error
    missing = [key for key in NEEDED if key not in content] if isinstance(content, dict) else ["everything"]
    if missing:
        raise ValueError(
            f"{path} is no metrics.json of this version: it lacks {', '.join(missing)}; "
            "run `unetr_nnunet evaluate` again"
        )
    try:
        _refuse_broken_outline(content)
        content["cases"] = {
            case: {
                column: {name: figure_read(name, value) for name, value in metrics.items()}
                for column, metrics in columns.items()
            }
            for case, columns in content["cases"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); run `unetr_nnunet evaluate` again") from error
    return content


def _refuse_broken_outline(content: Mapping[str, Any]) -> None:
    """Raise a KeyError or TypeError where something lacks that later steps take for granted."""
    for key in ("label_ids", "organs", "cases", "files", "sha256", "grids", "tolerance", "rule", *WORDS_BY_CASE):
        if not isinstance(content.get(key, {}), dict):
            raise TypeError(f"{key} is no table")
    for key in ("metrics", "without_prediction", "without_label"):
        _refuse_other_than_words(key, content.get(key, []))
    for key in WORDS_BY_CASE:
        _refuse_other_than_words(key, list(content.get(key, {}).values()))
    for key in ("predictions", "labels", "label_source"):
        _refuse_other_than_words(key, [content[key]])
    _refuse_other_than_words("protocol", [content["protocol"][key] for key in ("name", "statement", "source")])
    ignored = [] if content["ignore_label"] is None else [content["ignore_label"]]
    for label in (*content["label_ids"].values(), *ignored):
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label <= HIGHEST_LABEL:
            raise TypeError(f"a label is {label!r}")
    if content["cases"].keys() != content["files"].keys():
        raise KeyError("cases and files differ")
    for case, columns in content["cases"].items():
        _refuse_broken_case(case, columns, content)


def _refuse_other_than_words(key: str, values: Any) -> None:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{key} holds other things than words")


def _refuse_broken_case(case: str, columns: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    if not all(isinstance(content["files"][case][side], str) for side in ("prediction", "label")):
        raise TypeError(f"files of {case}")
    if columns.keys() != content["organs"].keys():
        raise KeyError(f"{case} has other organs than the table of organs")
    for column, metrics in columns.items():
        if not set(NEEDED_METRICS) <= metrics.keys() <= set(content["metrics"]):
            raise KeyError(f"{column} of {case} has other metrics than it should")


def still_holds(evaluation: Mapping[str, Any], pairs: Pairs, table: LabelTable, protocol: str) -> bool:
    """Return whether a finished evaluation is what evaluating these files now would give.

    Files count as the same by their content: a copy may carry any timestamp.

    Args:
        evaluation: content of a ``metrics.json``.
        pairs: (prediction, label) by case.
        table: the labels.
        protocol: name of the protocol wanted.
    """
    files = {case: (Path(each["prediction"]), Path(each["label"])) for case, each in evaluation["files"].items()}
    refused = evaluation.get("refused", {})
    return (
        evaluation["protocol"]["name"] == protocol
        and evaluation.get("tolerance", {}).get("name") == DEFAULT_TOLERANCE
        and (evaluation["label_ids"], evaluation.get("ignore_label")) == (table.organs, table.ignore_label)
        and not evaluation.get("resampled")
        and files.keys() | refused.keys() == pairs.keys()
        and all(_same(files[case], pairs[case]) for case in files)
        and all(_is_unchanged(pair, evaluation.get("sha256", {}).get(case)) for case, pair in pairs.items())
    )


def _is_unchanged(pair: tuple[Path, Path], sha256: Any) -> bool:
    try:
        return bool(fingerprint(pair) == sha256)
    except OSError:
        return False  # scoring the pair says what is wrong with it


def _same(one: tuple[Path, Path], other: tuple[Path, Path]) -> bool:
    return all(left.resolve() == right.resolve() for left, right in zip(one, other, strict=True))


def merge(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put evaluations of different cases together, as if they had been made at once.

    Args:
        evaluations: one at least; of one protocol and one table of labels, no case in two of them.

    Raises:
        ValueError: protocols or labels differ.
    """
    first = next((each for each in evaluations if each["cases"]), evaluations[0])
    for other in evaluations:
        for key in ("protocol", "label_ids"):
            if other[key] != first[key]:
                raise ValueError(
                    f"{first['predictions']} and {other['predictions']} were scored differently: "
                    f"{first[key]} against {other[key]}; evaluate both again"
                )
    collected = {
        key: {case: value for each in evaluations for case, value in each.get(key, {}).items()} for key in COLLECTED
    }
    names = [name for name in first["metrics"] if all(name in each["metrics"] for each in evaluations if each["cases"])]
    collected["cases"] = {
        case: {
            column: {name: metrics[name] for name in names if name in metrics} for column, metrics in columns.items()
        }
        for case, columns in sorted(collected["cases"].items())
    }
    lists = {
        key: sorted({name for each in evaluations for name in each.get(key, [])})
        for key in ("without_prediction", "without_label")
    }
    return {**first, **collected, **lists, "metrics": names, **summarise(collected["cases"], first["organs"])}


def without_cases(evaluation: Mapping[str, Any], left_out: Collection[str]) -> dict[str, Any]:
    """Return an evaluation without the figures of some cases."""
    kept = {
        key: {case: value for case, value in evaluation.get(key, {}).items() if case not in left_out}
        for key in COLLECTED
    }
    return {**evaluation, **kept, **summarise(kept["cases"], evaluation["organs"])}
