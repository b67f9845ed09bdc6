from dataclasses import replace

import numpy as np

from tests.nnunet.organ_values import learnt, organ
from unetr_nnunet.nnunet.label_learning import digest
from unetr_nnunet.nnunet.label_statistics import Order
from unetr_nnunet.nnunet.organ_measures import OrganMeasures


def test_ranges_are_those_of_training_and_limits_wider() -> None:
    statistics = learnt([{"liver": organ(volume_ml=1000 + 50 * number, mean_hu=90 + number)} for number in range(20)])
    assert statistics.organs["liver"].ranges["volume_ml"] == (1000, 1950)
    low, high = statistics.limits("liver", "volume_ml") or (0, 0)
    assert 500 < low < 1000 < 1950 < high < 3000
    low, high = statistics.limits("liver", "mean_hu") or (0, 0)
    assert 70 < low < 90 < 109 < high < 130
    assert statistics.limits("spleen", "volume_ml") is None


def test_one_in_twenty_new_cases_lies_outside_in_any_organ_at_most() -> None:
    """Thirteen organs with three figures each: limits at two standard deviations would flag five cases in six."""
    random = np.random.default_rng(0)

    def case() -> dict[str, OrganMeasures]:
        return {
            f"organ_{number}": organ(float(100 * np.exp(random.normal(0, 0.3))), float(random.normal(50, 12)))
            for number in range(13)
        }

    shares = []
    for _ in range(20):
        statistics = learnt([case() for _ in range(24)])
        flagged = [
            any(
                not low <= getattr(measures, figure) <= high
                for name, measures in new.items()
                for figure in ("volume_ml", "mean_hu")
                for low, high in [statistics.limits(name, figure) or (0, 0)]
            )
            for new in (case() for _ in range(100))
        ]
        shares.append(np.mean(flagged))
    assert np.mean(shares) <= 0.05


def test_a_case_that_stands_out_widens_the_range_of_its_figure_only() -> None:
    cases = [{"liver": organ(), "spleen": organ(parts=1)} for _ in range(20)]
    ordinary = learnt(cases)
    cases[3] = {"liver": organ(), "spleen": organ(parts=9)}
    statistics = learnt(cases)
    assert statistics.widening["parts"] > ordinary.widening["parts"]
    assert statistics.widening["volume_ml"] == ordinary.widening["volume_ml"]


def test_one_odd_case_of_a_hundred_does_not_widen_the_ranges() -> None:
    cases = [{"liver": organ(volume_ml=1000 + number)} for number in range(100)]
    cases[50] = {"liver": organ(volume_ml=1)}
    statistics = learnt(cases)
    assert statistics.widening["volume_ml"] < 1
    assert statistics.flagged == 1


def test_an_organ_is_expected_where_nearly_every_case_has_it() -> None:
    cases = [{"liver": organ()} | ({"gallbladder": organ()} if number % 5 else {}) for number in range(20)]
    statistics = learnt(cases)
    assert statistics.expects("liver")
    assert not statistics.expects("gallbladder")
    assert statistics.flagged == 0


def test_an_organ_that_the_field_of_view_often_cuts_off_is_not_flagged_at_the_border() -> None:
    cases = [{"liver": organ(), "aorta": organ(border_mm=10 * (number % 2))} for number in range(20)]
    statistics = learnt(cases)
    assert statistics.is_cut_off("liver", organ(border_mm=0))
    assert not statistics.is_cut_off("liver", organ(border_mm=1))
    assert not statistics.is_cut_off("aorta", organ(border_mm=0))


def test_an_organ_that_often_ends_just_below_the_border_may_touch_it() -> None:
    cases = [
        {"liver": organ(border_mm=30), "brainstem": organ(border_mm=6 if number % 5 else 30)} for number in range(20)
    ]
    statistics = learnt(cases)
    assert statistics.is_cut_off("liver", organ(border_mm=0))
    assert not statistics.is_cut_off("liver", organ(border_mm=1))
    assert not statistics.is_cut_off("brainstem", organ(border_mm=0))
    assert statistics.is_cut_off("brainstem", replace(organ(), border_mm=(0,) + (50,) * 5)), "another side"


def test_the_border_says_nothing_where_every_case_is_cut_off_elsewhere() -> None:
    names = [f"organ_{number}" for number in range(20)]
    statistics = learnt([{name: organ(border_mm=50 * (name != own)) for name in names} for own in names])
    assert statistics.border_limit is None
    assert not statistics.is_cut_off("organ_3", organ(border_mm=0))


def test_the_order_of_organs_is_learnt_where_all_cases_agree() -> None:
    cases = [
        {
            "liver": organ(place_mm=(10 + number % 3, number * 9 % 7, 0)),
            "spleen": organ(place_mm=(100, 3, 0)),
        }
        for number in range(12)
    ]
    assert learnt(cases).order == (Order(towards="left", first="spleen", second="liver"),)
    cases[5]["spleen"] = organ(place_mm=(0, 3, 0))
    assert learnt(cases).order == ()


def test_no_order_where_the_orientation_is_unknown() -> None:
    assert learnt([{"liver": organ(), "spleen": organ()} for _ in range(12)]).order == ()


def test_a_shift_of_all_organs_together_has_narrower_limits_than_one_organ() -> None:
    """Every case has contrast medium in another organ."""
    names = [f"organ_{number}" for number in range(12)]
    cases = [
        {name: organ(mean_hu=150 if name == own else 50 + place % 3) for name in names}
        for place, own in enumerate(names)
    ]
    statistics = learnt(cases)
    low, high = statistics.limits("organ_0", "mean_hu") or (0, 0)
    assert low < 0 < 200 < high
    assert statistics.shifts_hu == (-1, 1)
    low, high = statistics.shift_limits_hu or (0, 0)
    assert -50 < low < high < 50
    brighter = {name: organ(mean_hu=110) for name in names}
    assert statistics.shift_hu(brighter) == 59
    assert statistics.shift_hu({}) is None


def test_names_are_not_stored_but_can_be_compared() -> None:
    assert digest(["a", "b"]) == digest(("a", "b")) != digest(["ab"])
    assert "case_3" not in learnt([{"liver": organ()}] * 9).model_dump_json()
