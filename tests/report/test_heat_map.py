import math

from tests.report.studies import model, random_model
from unetr_nnunet.report import heat_map
from unetr_nnunet.report.study import gather


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_worst_case_is_first_and_no_value_last() -> None:
    dice = {"liver": {"a": 0.9, "b": 0.2, "c": math.nan}, "aorta": {"a": 0.8, "b": math.nan, "c": math.nan}}
    content = heat_map.context(gather([model("m", dice, fold_of={"b": "3"})]))
    (shown,) = content["maps"]
    assert [row["case"] for row in shown["rows"]] == ["b", "a", "c"]
    assert [row["fold"] for row in shown["rows"]] == ["3", None, None]
    assert shown["rows"][0]["cells"][1].value is None
    assert shown["rows"][0]["mean"].text == "0.20"


def test_worse_is_darker_and_text_is_legible() -> None:
    cells = [heat_map.cell(step / 50) for step in range(51)]
    lightness = [luminance(each.background) for each in cells]
    assert lightness == sorted(lightness)
    for each in cells:
        pair = sorted((luminance(each.background), luminance("#000000" if each.ink == "#000" else "#ffffff")))
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, "WCAG asks for 4.5"


def test_three_thousand_cases_are_cut_to_the_worst() -> None:
    (shown,) = heat_map.context(gather([random_model("m", 3000)]))["maps"]
    assert shown["total"] == 3000
    assert len(shown["rows"]) == heat_map.MOST_ROWS
