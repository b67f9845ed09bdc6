"""The figures of an evaluation, by case and organ, and their means with the number of cases behind each."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, NamedTuple

from pydantic import Field

from unetr_nnunet.evaluation.metrics import METRICS, OrganFigures
from unetr_nnunet.evaluation.protocols import ProtocolDescription
from unetr_nnunet.evaluation.statistics import Estimate, known, mean, summarise
from unetr_nnunet.nnunet.label_table import HIGHEST_LABEL

Label = Annotated[int, Field(ge=0, le=HIGHEST_LABEL)]


@dataclass(frozen=True)
class Grid:
    """The grid that a case was scored on.

    Attributes:
        size: voxels along (Z, Y, X).
        spacing_mm: voxel size along (Z, Y, X).
        scored_voxels: those that are not ignored.
    """

    size: Sequence[int]
    spacing_mm: Sequence[float]
    scored_voxels: int


@dataclass(frozen=True)
class CaseFigures:
    """One case.

    Attributes:
        organs: figures by organ (or column of the protocol).
        prediction: file of the predicted label map.
        label: file of the true label map.
        grid: where it was scored; None where that is not known (nnU-Net records none).
        resampled: why and how the prediction was brought to the label's grid; None where it was not.
    """

    organs: Mapping[str, OrganFigures]
    prediction: str = ""
    label: str = ""
    grid: Grid | None = None
    resampled: str | None = None


class Absent(NamedTuple):
    """How many cases lack an organ on both sides, in truth only, in the prediction only."""

    in_both: int
    in_truth: int
    in_prediction: int


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord:
    """What ``metrics.json`` and `Evaluation` call the same.

    Attributes:
        predictions: folder of the masks.
        labels: folder of the true label maps.
        label_source: where the table of labels comes from.
        label_ids: label of each organ.
        not_scored: labels that may occur and were not scored.
        ignore_label: label of voxels that count nowhere.
        protocol: which organs were scored, where, and by which rule.
        rule: of the protocol for absent organs, as recorded.
        sha256: of both files (``prediction``, ``label``), by case, also of those refused.
        refused: why, by case.
        without_prediction: names of label maps without a prediction.
        without_label: names of predictions without a label map.
    """

    predictions: str
    labels: str
    label_source: str
    label_ids: Mapping[str, Label]
    not_scored: Mapping[str, Label] = field(default_factory=dict)
    ignore_label: Label | None
    protocol: ProtocolDescription
    rule: Mapping[str, str | float | None] = field(default_factory=dict)
    sha256: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    without_prediction: Sequence[str] = ()
    without_label: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Evaluation(EvaluationRecord):
    """A folder of predictions, scored under one protocol; ``metrics.json`` holds the same.

    Attributes:
        columns: the organs, or those that the protocol joins, in its order.
        cases: those that were scored.
        tolerance: name of the surface tolerances; None in files that do not tell.
        tolerances_mm: by column.
    """

    columns: Sequence[str]
    cases: Mapping[str, CaseFigures]
    tolerance: str | None = None
    tolerances_mm: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def metrics(self) -> list[str]:
        """Names of the metrics that every case has of some organ, in the order of `METRICS`."""
        names = [{name for organ in case.organs.values() for name in organ.measured()} for case in self.cases.values()]
        common = set.intersection(*names) if names else set()
        return [name for name in METRICS if name in common]

    @cached_property
    def resampled(self) -> dict[str, str]:
        """Why and how predictions were resampled, by case."""
        return {name: case.resampled for name, case in self.cases.items() if case.resampled}

    def figure(self, case: str, column: str, metric: str) -> float:
        """Return one figure; NaN if missing."""
        organs = self.cases[case].organs if case in self.cases else {}
        value = getattr(organs.get(column), metric, None)
        return math.nan if value is None else float(value)

    def scores(self, metric: str = "dice") -> dict[str, dict[str, float]]:
        """Return one metric by column and case; NaN where it is not defined.

        Raises:
            ValueError: not every case has this metric.
        """
        if self.cases and metric not in self.metrics:
            raise ValueError(
                f"{self.predictions}: {metric} was not measured, only {', '.join(self.metrics)}; score the masks with "
                "`unetr_nnunet evaluate`"
            )
        return {column: {case: self.figure(case, column, metric) for case in self.cases} for column in self.columns}

    def has(self, column: str, metric: str) -> bool:
        """Return whether a metric was measured of an organ; it may have no value in any case."""
        return any(getattr(case.organs[column], metric) is not None for case in self.cases.values())

    def over_cases(self, column: str, metric: str = "dice") -> Estimate:
        """Summarise a metric of an organ, without an interval."""
        return summarise(getattr(case.organs[column], metric) for case in self.cases.values())

    def over_organs(self, metric: str = "dice") -> Estimate:
        """Return the mean of the organ means of a metric, over the organs that have one.

        Of Dice, where every organ has one, this is nnU-Net's ``foreground_mean``, which is NaN otherwise.
        """
        means = [self.over_cases(column, metric).mean for column in self.columns]
        return Estimate(len(self.cases), mean(means), columns=len(known(means)))

    def worst(self, column: str) -> tuple[str | None, float]:
        """Return the case with the lowest Dice of an organ, and that; None and NaN without any case."""
        dice = {name: case.organs[column].dice for name, case in self.cases.items()}
        valued = {name: value for name, value in dice.items() if not math.isnan(value)}
        worst = min(valued, key=valued.__getitem__, default=None)
        return worst, valued[worst] if worst is not None else math.nan

    def absent(self, column: str) -> Absent:
        """Count the cases that lack an organ."""
        organs = (case.organs[column] for case in self.cases.values())
        held = [(organ.truth_voxels > 0, organ.prediction_voxels > 0) for organ in organs]
        return Absent(held.count((False, False)), held.count((False, True)), held.count((True, False)))

    def without(self, left_out: Collection[str]) -> "Evaluation":
        """Return the evaluation without some cases."""
        return replace(
            self,
            cases={case: figures for case, figures in self.cases.items() if case not in left_out},
            sha256={case: digests for case, digests in self.sha256.items() if case not in left_out},
            refused={case: reason for case, reason in self.refused.items() if case not in left_out},
        )


def merge(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Put evaluations of different cases together, as if they had been made at once.

    Args:
        evaluations: one at least; of one protocol and one table of labels, no case in two of them.

    Raises:
        ValueError: protocols or labels differ.
    """
    first = next((evaluation for evaluation in evaluations if evaluation.cases), evaluations[0])
    for other in evaluations:
        for mine, theirs in ((first.protocol, other.protocol), (first.label_ids, other.label_ids)):
            if mine != theirs:
                raise ValueError(
                    f"{first.predictions} and {other.predictions} were scored differently: {mine} against {theirs}; "
                    "evaluate both again"
                )
    return replace(
        first,
        cases=dict(sorted(item for part in evaluations for item in part.cases.items())),
        sha256=dict(item for part in evaluations for item in part.sha256.items()),
        refused=dict(item for part in evaluations for item in part.refused.items()),
        without_prediction=sorted({name for part in evaluations for name in part.without_prediction}),
        without_label=sorted({name for part in evaluations for name in part.without_label}),
    )
