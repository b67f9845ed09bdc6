"""What the organs of the training labels have in common, as stored in the model folder; see `label_learning`."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, TypeAdapter

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.nnunet.json_file import read_json
from unetr_nnunet.nnunet.organ_measures import OrganMeasures

FILE = "label_statistics.json"
FEWEST_CASES = 8
"""Nothing is learnt of an organ that fewer training cases have."""
NEARLY_EVERY = 0.95
"""Share of training cases from which on an organ is missed where it is empty."""

Figure = Literal["volume_ml", "mean_hu", "parts"]
NARROWEST: dict[Figure, float] = {"volume_ml": math.log(1.5), "mean_hu": 20.0, "parts": 1.0}
"""Ranges of figures are widened as if they had at least this width; that of volumes is the logarithm of a ratio."""
Axis = Literal["left", "back", "head"]
AXES: tuple[Axis, ...] = ("left", "back", "head")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class OrganStatistics(_Frozen):
    """One organ in the training labels.

    Attributes:
        cases: how many have it.
        near_border: in how many of them it comes near the first and the last slice of the image, along each axis.
        ranges: least and greatest value of each figure.
        median_hu: median of the cases' means; None where images are no CTs.
    """

    cases: int
    near_border: tuple[int, ...]
    ranges: dict[Figure, tuple[float, float]]
    median_hu: float | None


class Order(_Frozen):
    """In every training case ``first`` lies further to one end of the patient than ``second``."""

    towards: Axis
    first: str
    second: str


class TrainingStatistics(_Frozen):
    """What the training labels have in common.

    Attributes:
        cases: how many training cases have been measured.
        names_digest: of their names, which stay where the data are.
        organs: by name; those that no case has are left out.
        widening: by how much of its width a range is widened at both ends, for each figure.
        shifts_hu: least and greatest HU shift of a case, see `shift_hu`; None where images are no CTs.
        shift_limits_hu: the same, widened.
        border_limit: an organ at the border is flagged where at most this share of training cases has it near there;
            None where organs are cut off in too many ways to tell.
        order: pairs of organs that always lie in the same order.
        flagged: how many of the training cases would be flagged if they were compared with the others.
    """

    cases: int
    names_digest: str
    organs: dict[str, OrganStatistics]
    widening: dict[Figure, float]
    shifts_hu: tuple[float, float] | None
    shift_limits_hu: tuple[float, float] | None
    border_limit: float | None
    order: tuple[Order, ...]
    flagged: int

    def limits(self, organ: str, figure: Figure) -> tuple[float, float] | None:
        """Return between which values a figure of an organ is not flagged; None where that is unknown."""
        known = self.organs.get(organ)
        if known is None or known.cases < FEWEST_CASES or figure not in known.ranges or figure not in self.widening:
            return None
        low, high = scaled(figure, np.array(known.ranges[figure]))
        margin = self.widening[figure] * max(high - low, NARROWEST[figure])
        limits = np.array([low - margin, high + margin])
        low, high = np.exp(limits) if figure == "volume_ml" else limits
        return float(low), float(high)

    def shift_hu(self, measures: Mapping[str, OrganMeasures]) -> float | None:
        """Return the median over a case's organs of how far they are brighter than in the median training case, HU.

        One organ's HU vary with contrast medium and phase; those of all together hardly do.
        """
        medians = {organ: known.median_hu for organ, known in self.organs.items()}
        return median_difference(measures, medians)

    def expects(self, organ: str) -> bool:
        """Whether nearly every training case has an organ."""
        known = self.organs.get(organ)
        enough = self.cases >= FEWEST_CASES
        return enough and known is not None and known.cases >= NEARLY_EVERY * self.cases

    def is_cut_off(self, organ: str, own: OrganMeasures) -> bool:
        """Whether an organ touches a side of the image that it hardly ever comes near in training."""
        known = self.organs.get(organ)
        if known is None or self.border_limit is None or known.cases < FEWEST_CASES:
            return False
        rare = [count <= self.border_limit * known.cases for count in known.near_border]
        return any(distance == 0 and is_rare for distance, is_rare in zip(own.border_mm, rare, strict=True))


def median_difference(measures: Mapping[str, OrganMeasures], medians: Mapping[str, float | None]) -> float | None:
    """Return the median over organs of how far they are brighter than in ``medians``; None where there is none."""
    differences = [
        own.mean_hu - median
        for organ, own in measures.items()
        if own.mean_hu is not None and (median := medians.get(organ)) is not None
    ]
    return float(np.median(differences)) if differences else None


def scaled(figure: Figure, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return values of a figure on the scale on which its ranges are widened."""
    return np.log(values) if figure == "volume_ml" else values


def read_statistics(path: Path) -> TrainingStatistics | None:
    """Return what a file holds of training labels, such as `FILE` in a model folder; None where it is missing.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.is_file():
        return None
    return read_json(path, TypeAdapter(TrainingStatistics), "remove it, and masks are no longer compared with training")


def write_statistics(statistics: TrainingStatistics, path: Path) -> None:
    """Write the file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(statistics.model_dump_json(indent=1), encoding="utf-8")
