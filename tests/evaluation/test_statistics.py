"""Against numpy, and scipy's own bootstrap."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unetr_nnunet.evaluation.statistics import (
    LEAST_CASES,
    RESAMPLES,
    Estimate,
    by_fold,
    describe,
    describe_overall,
    known,
    mean,
    mean_along,
    overall_mean,
    resampled_column_means,
    spread,
    tail_share,
)

NAN = math.nan


def scipy_interval(values: np.ndarray, cases: int) -> tuple[float, float]:
    """Scipy's percentile bootstrap at the confidence that Hesterberg's correction asks for."""
    level, random = 1 - 2 * tail_share(cases), np.random.default_rng(1)
    interval = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", confidence_level=level, rng=random
    ).confidence_interval
    return float(interval.low), float(interval.high)


@pytest.mark.parametrize("cases", [8, 30, 400])
def test_the_figures_are_those_of_numpy_and_scipy(cases: int) -> None:
    values = np.random.default_rng(cases).beta(18, 3, cases)
    found = describe([*values.tolist(), NAN])
    assert found.cases == cases
    assert found.mean == pytest.approx(np.mean(values), abs=1e-12)
    assert found.median == pytest.approx(np.median(values), abs=1e-12)
    assert found.sd == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    tolerance = 0.08 * np.std(values) / math.sqrt(cases) * (3 if cases < 10 else 1)  # two bootstraps, each by chance
    assert (found.low, found.high) == pytest.approx(scipy_interval(values, cases), abs=tolerance)


@pytest.mark.parametrize("cases", [6, 12, 25])
def test_for_few_cases_the_interval_is_as_wide_as_students(cases: int) -> None:
    """On even values the resampled means are nearly normal, and both intervals nearly the same."""
    values = np.linspace(0.7, 0.9, cases)
    found = describe(values)
    low, high = stats.t.interval(0.95, cases - 1, loc=values.mean(), scale=stats.sem(values))
    assert found.high - found.low == pytest.approx(high - low, rel=0.15 if cases == 6 else 0.06)
    plain = np.quantile(resampled_column_means(values[:, None]), [0.025, 0.975])
    assert found.low < plain[0]
    assert found.high > plain[1]


def test_the_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    found = [describe(random.beta(18, 3, 10)) for _ in range(300)]
    held = np.mean([each.low <= 18 / 21 <= each.high for each in found])
    assert 0.92 < held < 0.98


def test_too_few_cases_get_no_interval_and_none_no_figure() -> None:
    assert describe([NAN, None]) == Estimate(0)
    assert describe([0.5]) == Estimate(1, 0.5, 0.5)
    four = describe([0.0, 0.5, 0.5, 1.0])
    assert math.isnan(four.low)
    assert math.isnan(four.high)
    assert four.sd == pytest.approx(1 / math.sqrt(6))
    assert describe([0.25] * LEAST_CASES).low == 0.25


def test_means_skip_what_is_missing() -> None:
    assert known([0.5, None, NAN, 0]) == [0.5, 0]
    assert mean([0.5, None, NAN, 1.0]) == 0.75
    assert math.isnan(mean([None, NAN]))
    array = np.array([[1.0, NAN, 3.0], [NAN, NAN, 5.0]])
    np.testing.assert_array_equal(mean_along(array, 0), [1, NAN, 4])
    np.testing.assert_array_equal(mean_along(array, -1), [2, 5])


def test_infinite_values_are_refused() -> None:
    with pytest.raises(ValueError, match="inf is not a value"):
        describe([math.inf] * LEAST_CASES)


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1) | st.just(NAN), max_size=8), st.randoms())
def test_the_order_of_cases_does_not_matter(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert repr(describe(values)) == repr(describe(shuffled)), "NaN is like NaN"


def test_columns_are_resampled_together_and_without_a_case_there_is_no_mean() -> None:
    values = np.array([[0.0, NAN], [1.0, NAN], [2.0, 5.0]])
    means = resampled_column_means(values)
    assert means.shape == (RESAMPLES, 2)
    assert np.isnan(means[:, 1]).mean() == pytest.approx((2 / 3) ** 3, abs=0.02)  # the third case was not drawn
    assert set(means[~np.isnan(means[:, 1]), 1]) == {5.0}
    assert means[np.isnan(means[:, 1]), 0].max() == 1.0
    assert means[:, 0].mean() == pytest.approx(1.0, abs=0.02)


def test_3000_cases() -> None:
    values = np.random.default_rng(0).beta(18, 3, 3000)
    found = describe(values)
    assert found.high - found.low == pytest.approx(2 * 1.96 * stats.sem(values), rel=0.05)


SCORES = {
    "liver": {"a": 0.5, "b": 1.0, "c": 0.75},
    "gallbladder": {"a": NAN, "b": 0.25, "c": NAN},
    "aorta": {"a": NAN, "b": NAN, "c": NAN},
}


def test_the_overall_mean_is_that_of_the_organs_that_have_one() -> None:
    assert overall_mean(SCORES) == (0.75 + 0.25) / 2
    # the cases' own means are 0.5, 0.625 and 0.75
    assert describe_overall(SCORES) == Estimate(3, 0.5, 0.625, 0.125, columns=2)
    assert math.isnan(overall_mean({"aorta": SCORES["aorta"]}))
    assert describe_overall({}) == Estimate(0, columns=0)


def test_the_overall_interval_is_that_of_the_case_means_where_nothing_is_missing() -> None:
    values = np.random.default_rng(3).beta(18, 3, (20, 4))
    scores = {str(column): {str(case): values[case, column] for case in range(20)} for column in range(4)}
    found = describe_overall(scores)
    tolerance = 0.08 * stats.sem(values.mean(axis=1))
    assert (found.low, found.high) == pytest.approx(scipy_interval(values.mean(axis=1), 20), abs=tolerance)


def test_spread_over_folds() -> None:
    folds = by_fold(SCORES, {"a": "0", "b": "1", "c": "10", "elsewhere": "2"})
    assert list(folds) == ["0", "1", "2", "10"]
    groups, over = spread(folds)
    assert groups == {
        "0": Estimate(1, 0.5),
        "1": Estimate(1, 0.625),
        "2": Estimate(0),
        "10": Estimate(1, 0.75),
    }
    assert (over.cases, over.mean, over.sd) == (3, 0.625, 0.125)
    assert spread({}) == ({}, Estimate(0))


def as_scores(values: np.ndarray) -> dict[str, dict[str, float]]:
    """(cases, columns)"""
    return {
        str(column): {str(case): float(value) for case, value in enumerate(of)} for column, of in enumerate(values.T)
    }


@pytest.mark.parametrize(("of_cases", "of_trainings", "of_both"), [(1, 0.3, 0.5), (0.1, 0.5, 0.1), (1, 0, 0.1)])
def test_an_interval_over_trainings_holds_the_true_mean(of_cases: float, of_trainings: float, of_both: float) -> None:
    """Cases, trainings, and the two together vary as given; without the trainings 86, 7 and 96 % would hold it."""
    random, held = np.random.default_rng(1), 0
    for _ in range(200):
        values = random.normal(0, of_cases, (1, 30, 1)) + random.normal(0, of_trainings, (3, 1, 1))
        values = values + random.normal(0, of_both, (3, 30, 2))
        found = describe_overall(as_scores(values.mean(0)), [as_scores(each) for each in values])
        held += found.low <= 0 <= found.high
    assert 0.92 <= held / 200 <= 0.99


def test_trainings_that_agree_leave_the_interval_as_it_is() -> None:
    values = np.random.default_rng(2).beta(18, 3, (12, 2))
    values[3, 1] = NAN
    scores = as_scores(values)
    alone = describe_overall(scores)
    assert describe_overall(scores, [scores, scores, scores]) == alone
    assert describe_overall(scores, [scores]) == alone
    apart = [as_scores(values - 0.02), scores, as_scores(values + 0.02)]
    wider = describe_overall(scores, apart)
    assert wider.mean == alone.mean
    assert wider.high - wider.low > 1.2 * (alone.high - alone.low)
    assert math.isnan(describe_overall(as_scores(values[:4]), apart).low), "too few cases"
