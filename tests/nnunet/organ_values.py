"""Measures of organs, and what is learnt of cases of them."""

from unetr_nnunet.nnunet.label_learning import learn
from unetr_nnunet.nnunet.label_statistics import TrainingStatistics
from unetr_nnunet.nnunet.organ_measures import OrganMeasures


def organ(
    volume_ml: float = 100,
    mean_hu: float | None = 50,
    parts: int = 1,
    place_mm: tuple[float, float, float] | None = None,
    border_mm: float = 50,
) -> OrganMeasures:
    return OrganMeasures(volume_ml, mean_hu, parts, place_mm, (50,) * 5 + (border_mm,))


def learnt(measures: list[dict[str, OrganMeasures]]) -> TrainingStatistics:
    return learn({f"case_{number}": case for number, case in enumerate(measures)})
