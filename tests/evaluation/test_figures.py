import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.made_up import evaluation, score
from unetr_nnunet.evaluation.figures import Absent, merge
from unetr_nnunet.evaluation.protocols import PROTOCOLS
from unetr_nnunet.evaluation.statistics import Estimate


def test_means_are_over_the_cases_that_have_a_value_and_say_how_many() -> None:
    cases = {
        "a": {"liver": score(0.5), "gallbladder": score(math.nan, 0, 0)},
        "b": {"liver": score(0.75), "gallbladder": score(0.0, 0, 7)},
        "c": {"liver": score(1.0), "gallbladder": score(0.0, 7, 0)},
        "d": {"liver": score(0.25), "gallbladder": score(0.75)},
        "e": {"liver": score(math.nan, 0, 0), "gallbladder": score(0.0, 0, 1)},
    }
    scored = evaluation(cases, "liver", "gallbladder")
    assert scored.over_cases("liver").cases == 4
    assert (scored.over_cases("liver").mean, scored.over_cases("liver").median) == (0.625, 0.625)
    assert scored.worst("liver") == ("d", 0.25)
    assert scored.absent("liver") == Absent(in_both=1, in_truth=0, in_prediction=0)
    assert (scored.over_cases("gallbladder").mean, scored.over_cases("gallbladder").median) == (0.1875, 0.0)
    assert scored.worst("gallbladder") == ("b", 0.0), "the first of equals"
    assert scored.absent("gallbladder") == Absent(in_both=1, in_truth=2, in_prediction=1)
    assert scored.over_organs() == Estimate(5, 0.40625, columns=2)


def test_every_metric_has_a_mean_and_the_number_behind_it() -> None:
    liver = (score(0.5, hd95_mm=value, swapped=0.25) for value in (4.0, math.nan, 1.0, 10.0))
    cases = {
        name: {"liver": organ, "aorta": score(0.5, hd95_mm=math.nan)} for name, organ in zip("abcd", liver, strict=True)
    }
    scored = evaluation(cases, "liver", "aorta")
    assert scored.metrics == ["dice", "hd95_mm", "swapped", "truth_voxels", "prediction_voxels"]
    hd95 = scored.over_cases("liver", "hd95_mm")
    assert (hd95.cases, hd95.mean, hd95.median) == (3, 5.0, 4.0)
    assert scored.over_cases("aorta", "hd95_mm") == Estimate(0)
    assert (scored.has("aorta", "hd95_mm"), scored.has("aorta", "swapped")) == (True, False)
    assert (scored.over_organs("hd95_mm").mean, scored.over_organs("hd95_mm").columns) == (5.0, 1)
    assert scored.over_organs().columns == 2
    assert scored.scores("hd95_mm")["liver"] == {"a": 4.0, "b": pytest.approx(math.nan, nan_ok=True), "c": 1, "d": 10}
    with pytest.raises(ValueError, match="masks: nsd was not measured, only dice, hd95_mm"):
        scored.scores("nsd")


def test_one_figure() -> None:
    scored = evaluation({"a": {"liver": score(0.5)}}, "liver")
    assert scored.figure("a", "liver", "dice") == 0.5
    for absent in (("b", "liver", "dice"), ("a", "aorta", "dice"), ("a", "liver", "iou")):
        assert math.isnan(scored.figure(*absent))


def test_an_organ_absent_everywhere_leaves_the_mean_over_organs_standing() -> None:
    scored = evaluation({"a": {"liver": score(0.5), "aorta": score(math.nan, 0, 0)}}, "liver", "aorta")
    assert scored.over_organs() == Estimate(1, 0.5, columns=1)
    assert scored.worst("aorta") == (None, pytest.approx(math.nan, nan_ok=True))


def test_no_case_at_all() -> None:
    scored = evaluation({}, "liver")
    assert scored.over_organs() == Estimate(0, columns=0)
    assert (scored.metrics, scored.scores()) == ([], {"liver": {}})


@given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=6), st.randoms())
def test_the_order_of_cases_does_not_matter(values: list[float], random: object) -> None:
    names = [f"case_{index}" for index in range(len(values))]
    shuffled = list(zip(names, values, strict=True))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (
        evaluation({name: {"liver": score(value)} for name, value in pairs}, "liver")
        for pairs in (zip(names, values, strict=True), shuffled)
    )
    assert repr(first.over_cases("liver")) == repr(second.over_cases("liver"))
    assert first.worst("liver")[1] == pytest.approx(second.worst("liver")[1], nan_ok=True)
    assert first.over_organs().columns == (not all(map(math.isnan, values)))


def test_halves_put_together_are_the_whole() -> None:
    cases = {name: {"liver": score(value, iou=value)} for name, value in (("a", 0.5), ("b", 1.0))}
    whole = replace(evaluation(cases, "liver"), refused={"c": "cut"}, sha256={name: {"label": name} for name in "abc"})
    halves = [whole.without({"b", "c"}), whole.without({"a"})]
    assert [list(half.cases) for half in halves] == [["a"], ["b"]]
    assert [list(half.sha256) for half in halves] == [["a"], ["b", "c"]]
    assert merge(halves) == merge(halves[::-1]) == replace(whole, without_prediction=[], without_label=[])
    nothing = replace(whole, cases={}, predictions="nothing")
    assert merge([nothing, whole]).cases == whole.cases


def test_metrics_that_one_part_lacks_are_not_those_of_the_whole() -> None:
    parts = [evaluation({"a": {"liver": score(1, nsd=1)}}, "liver"), evaluation({"b": {"liver": score(1)}}, "liver")]
    assert "nsd" in parts[0].metrics
    assert merge(parts).metrics == ["dice", "truth_voxels", "prediction_voxels"]


def test_different_protocols_are_not_put_together() -> None:
    one = evaluation({"a": {"liver": score(1)}}, "liver")
    with pytest.raises(ValueError, match=r"were scored differently: .*'nnunet'.* against .*'unetr'"):
        merge([one, replace(one, protocol=PROTOCOLS["unetr"].description())])
