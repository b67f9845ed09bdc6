"""Read and write ``metrics.json`` and ``metrics.csv``, and tell whether one still holds for its files."""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, model_validator

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.evaluation.figures import CaseFigures, Evaluation, EvaluationRecord, Grid
from unetr_nnunet.evaluation.metrics import OrganFigures
from unetr_nnunet.evaluation.protocols import DEFAULT_TOLERANCE
from unetr_nnunet.evaluation.statistics import Estimate
from unetr_nnunet.images.files import fingerprint
from unetr_nnunet.nnunet.json_file import read_json
from unetr_nnunet.nnunet.label_table import LabelTable

FILE_NAME = "metrics.json"
Pairs = Mapping[str, tuple[Path, Path]]


@dataclass(frozen=True)
class _Files:
    prediction: str
    label: str


@dataclass(frozen=True)
class _Tolerance:
    name: str | None = None
    mm: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Content(EvaluationRecord):
    """What the file holds; means in it are computed again from the cases."""

    tolerance: _Tolerance = field(default_factory=_Tolerance)
    metrics: list[str]
    organs: dict[str, Any]
    cases: dict[str, dict[str, OrganFigures]]
    files: dict[str, _Files]
    grids: dict[str, Grid] = field(default_factory=dict)
    resampled: dict[str, str] = field(default_factory=dict)

    @model_validator(mode="after")
    def _agrees(self) -> "_Content":
        if self.cases.keys() != self.files.keys():
            raise ValueError("cases and files differ")
        for case, organs in self.cases.items():
            if organs.keys() != self.organs.keys():
                raise ValueError(f"{case} has other organs than the table of organs")
            for organ, figures in organs.items():
                if not figures.measured().keys() <= set(self.metrics):
                    raise ValueError(f"{organ} of {case} has metrics that are not listed")
        return self


_CONTENT = TypeAdapter(_Content)
_RECORD = [field.name for field in fields(EvaluationRecord)]


def read_evaluation(path: Path) -> Evaluation:
    """Read a ``metrics.json``.

    Raises:
        ValueError: it is damaged, or not one that ``unetr_nnunet evaluate`` writes now.
    """
    content = read_json(path, _CONTENT, "run `unetr_nnunet evaluate` again")
    cases = {
        name: CaseFigures(organs, files.prediction, files.label, content.grids.get(name), content.resampled.get(name))
        for name, files in content.files.items()
        for organs in [content.cases[name]]
    }
    return Evaluation(
        **{name: getattr(content, name) for name in _RECORD},
        columns=tuple(content.organs),
        cases=cases,
        tolerance=content.tolerance.name,
        tolerances_mm=content.tolerance.mm,
    )


def write_json(evaluation: Evaluation, path: Path) -> None:
    """Write ``metrics.json`` as strict JSON (a missing value is ``null``); the file is whole or absent."""
    cases = evaluation.cases.items()
    record = {name: getattr(evaluation, name) for name in _RECORD}
    later = {name: record.pop(name) for name in ("sha256", "refused", "without_prediction", "without_label")}
    content = {
        **record,
        "protocol": asdict(evaluation.protocol),
        "tolerance": {"name": evaluation.tolerance, "mm": evaluation.tolerances_mm},
        "metrics": evaluation.metrics,
        "organs": {column: _organ_means(evaluation, column) for column in evaluation.columns},
        "foreground_mean": {
            **_over_organs(evaluation, "dice", "dice"),
            "n_cases": len(cases),
            "metrics": {metric: _over_organs(evaluation, metric, "mean") for metric in evaluation.metrics},
        },
        "cases": {name: {organ: figures.measured() for organ, figures in case.organs.items()} for name, case in cases},
        "files": {name: {"prediction": case.prediction, "label": case.label} for name, case in cases},
        "sha256": later.pop("sha256"),
        "grids": {name: asdict(case.grid) for name, case in cases if case.grid},
        "resampled": evaluation.resampled,
        **later,
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _organ_means(evaluation: Evaluation, column: str) -> dict[str, Any]:
    worst_case, worst = evaluation.worst(column)
    return {
        **_over_cases(evaluation.over_cases(column)),
        "worst": worst,
        "worst_case": worst_case,
        **{f"absent_{where}": cases for where, cases in evaluation.absent(column)._asdict().items()},
        "metrics": {
            metric: _over_cases(evaluation.over_cases(column, metric))
            for metric in evaluation.metrics
            if evaluation.has(column, metric)
        },
    }


def _over_cases(over: Estimate) -> dict[str, float]:
    return {"n_cases": over.cases, "mean": over.mean, "median": over.median}


def _over_organs(evaluation: Evaluation, metric: str, mean: str) -> dict[str, float]:
    over = evaluation.over_organs(metric)
    return {mean: over.mean, "n_organs": over.columns}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """Write one row for each case and organ (a missing value is empty); the file is whole or absent."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ("case", "organ", *evaluation.metrics))
        writer.writeheader()
        for name, case in evaluation.cases.items():
            for organ, figures in case.organs.items():
                cells = {metric: "" if math.isnan(value) else value for metric, value in figures.measured().items()}
                writer.writerow({"case": name, "organ": organ, **cells})


def still_holds(evaluation: Evaluation, pairs: Pairs, table: LabelTable, protocol: str) -> bool:
    """Return whether a finished evaluation is what evaluating these files now would give.

    Files count as the same by their content: a copy may carry any timestamp.

    Args:
        evaluation: read from a file.
        pairs: (prediction, label) by case.
        table: the labels.
        protocol: name of the protocol wanted.
    """
    files = {name: (Path(case.prediction), Path(case.label)) for name, case in evaluation.cases.items()}
    return (
        (evaluation.protocol.name, evaluation.tolerance) == (protocol, DEFAULT_TOLERANCE)
        and (evaluation.label_ids, evaluation.ignore_label) == (table.organs, table.ignore_label)
        and not evaluation.resampled
        and files.keys() | evaluation.refused.keys() == pairs.keys()
        and all([path.resolve() for path in files[case]] == [path.resolve() for path in pairs[case]] for case in files)
        and all(_is_unchanged(pair, evaluation.sha256.get(case)) for case, pair in pairs.items())
    )


def _is_unchanged(pair: tuple[Path, Path], sha256: Mapping[str, str] | None) -> bool:
    try:
        return fingerprint(pair) == sha256
    except OSError:
        return False  # scoring the pair says what is wrong with it
