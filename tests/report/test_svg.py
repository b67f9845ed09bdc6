from xml.etree import ElementTree

import pytest

from unetr_nnunet.report.svg import (
    Scale,
    horizontal_axis,
    join,
    nice_scale,
    picture,
    tag,
    text,
    typographic,
    vertical_axis,
)


def test_text_and_attributes_are_escaped() -> None:
    drawn = picture(10, 5, '"><script>', text(1, 2, "<b>&"), tag("g", "<i>", data_name="'\""))
    parsed = ElementTree.fromstring(drawn)
    assert parsed.get("aria-label") == '"><script>'
    assert parsed[0].text == "<b>&"
    assert parsed[1].text == "<i>"
    assert parsed[1].get("data-name") == "'\""
    assert "<script>" not in drawn


def test_what_is_markup_already_is_taken_as_it_is() -> None:
    assert join([tag("g"), "<"]) == "<g></g>&lt;"


@pytest.mark.parametrize(("low", "high"), [(0.23, 0.97), (-0.013, 0.004), (0, 1), (0.5, 0.5), (-1, 45)])
def test_scales_hold_their_values_and_have_round_ticks(low: float, high: float) -> None:
    scale = nice_scale(low, high, 10, 110)
    assert scale.low <= low
    assert scale.high >= high
    assert (scale(scale.low), scale(scale.high)) == (10, 110)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 12
    assert all(f"{tick:g}" == f"{tick:.2g}" for tick in ticks)


def test_values_beyond_a_scale_are_drawn_at_its_end() -> None:
    scale = Scale(0, 1, 100, 0)
    assert (scale(2), scale(-2), scale(0.25)) == (0, 100, 75)


def test_axes_name_their_ticks() -> None:
    axes = join([horizontal_axis(Scale(0, 1, 0, 100), 0, 50), vertical_axis(Scale(0, 4, 100, 0), 0, 50)])
    words = {element.text for element in ElementTree.fromstring(f"<g>{axes}</g>").iter("text")}
    assert {"0", "0.2", "0.8", "1", "2", "4"} <= words


def test_hyphens_are_no_minus() -> None:
    assert [typographic(text) for text in ("-", "-0.5", "-1 to +2")] == ["\u2013", "\u22120.5", "\u22121 to +2"]
