import math
from pathlib import Path

import pytest

from unetr_nnunet.evaluation.metrics import METRICS, OrganFigures, comparable, number, p_value


def test_which_values_are_better() -> None:
    assert comparable("dice").best
    assert comparable("hd95_mm").best is False
    for metric in ("components", "Dice"):
        with pytest.raises(ValueError, match=f"cannot be compared by '{metric}'; take one of dice, iou"):
            comparable(metric)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.12345, "0.123"),
        (-0.5, "-0.500"),
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (0.00012, "0.00012"),  # what is not 0 must not read so
        (-0.00049, "-0.00049"),
        (0.0005, "0.001"),
        (1e-17, "0.000"),  # rounding of equal means
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_numbers(value: float, shown: str) -> None:
    assert number(value, 3) == METRICS["dice"].text(value) == shown


def test_numbers_with_sign_unit_and_interval() -> None:
    dice, hd95, swapped = (METRICS[name] for name in ("dice", "hd95_mm", "swapped"))
    assert (dice.heading, hd95.heading, swapped.heading) == ("Dice", "HD95 (mm)", "swapped (%)")
    assert (dice.amount(0.5), hd95.amount(12.0), swapped.amount(0.125)) == ("0.500", "12.00 mm", "12.5 %")
    assert dice.text(0.5, signed=True) == "+0.500"
    assert hd95.interval(1, 2.345) == "1.00 to 2.35"
    assert dice.interval(-0.25, 0.5, signed=True) == "-0.250 to +0.500"
    assert dice.interval(math.nan, math.nan) == "-"


@pytest.mark.parametrize(("p", "shown"), [(0.0001, "< 0.001"), (0.0023, "0.002"), (0.456, "0.456"), (math.nan, "-")])
def test_p_values(p: float, shown: str) -> None:
    assert p_value(p) == shown


def test_derived_figures() -> None:
    figures = OrganFigures(
        dice=1, truth_voxels=1, prediction_voxels=1, relative_volume_error=-0.25, components=3, true_components=1
    )
    assert (figures.volume_deviation, figures.extra_components) == (0.25, 2)
    bare = OrganFigures(dice=1, truth_voxels=1, prediction_voxels=1)
    assert (bare.volume_deviation, bare.extra_components) == (None, None)
    assert bare.measured() == {"dice": 1, "truth_voxels": 1, "prediction_voxels": 1}


def test_the_documentation_lists_every_metric() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "protocols.md").read_text(encoding="utf-8")
    rows = [
        f"| `{name}` | {metric.heading} | {metric.meaning} | {metric.where_absent} |"
        for name, metric in METRICS.items()
    ]
    assert "\n".join(rows) in page
