"""Against scipy, statsmodels, and figures worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from unetr_nnunet.evaluation.comparison import Pair, compare_models, holm, rank_biserial, signed_rank_p
from unetr_nnunet.evaluation.statistics import Scores, overall_mean
from unetr_nnunet.evaluation.verdict import Difference, Outcome

NAN = math.nan
ORGANS = ("liver", "left_kidney", "gallbladder", "aorta")


def scores_of(values: np.ndarray) -> dict[str, dict[str, float]]:
    """Scores of a table (cases, organs)."""
    return {
        ORGANS[column]: dict(zip(map(str, range(len(values))), values[:, column], strict=True)) for column in range(4)
    }


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """30 cases; the second model is better in two organs, in the third by chance if at all, the same in the last."""
    random = np.random.default_rng(0)
    first = random.beta(18, 3, (30, 4))
    second = first + random.normal((0.03, 0.02, 0.0, 0.0), (0.03, 0.01, 0.02, 0.0), (30, 4))
    return first, second


def compare(first: Scores, second: Scores, **options: str) -> Pair:
    return compare_models({"A": first, "B": second}, **options).pairs[0]


def test_figures_against_scipy_and_statsmodels(pair: tuple[np.ndarray, np.ndarray]) -> None:
    first, second = pair
    columns = compare(scores_of(first), scores_of(second)).columns
    expected_p = [stats.wilcoxon(first[:, index], second[:, index]).pvalue for index in range(3)] + [1.0]
    expected_holm = multipletests(expected_p, method="holm")[1]
    for index, name in enumerate(ORGANS):
        figures = columns[name]
        assert figures.cases == 30
        assert figures.difference == pytest.approx((first - second)[:, index].mean(), abs=1e-12)
        assert figures.p == pytest.approx(expected_p[index], abs=1e-12)
        assert figures.p_holm == pytest.approx(expected_holm[index], abs=1e-12)
    plain = stats.bootstrap(
        ((first - second)[:, 0],), np.mean, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    width = plain.high - plain.low
    assert columns["liver"].low == pytest.approx(plain.low, abs=0.15 * width)
    assert columns["liver"].high == pytest.approx(plain.high, abs=0.15 * width)
    assert [columns[name].better("A", "B") for name in ORGANS] == ["B", "B", None, None]


def test_the_mean_is_the_difference_of_the_overall_means(pair: tuple[np.ndarray, np.ndarray]) -> None:
    first, second = (values.copy() for values in pair)
    first[3:, 2] = second[3:, 2] = NAN  # most cases have no gallbladder
    mean = compare(scores_of(first), scores_of(second)).mean
    one, other = overall_mean(scores_of(first)), overall_mean(scores_of(second))
    assert mean.difference == pytest.approx(one - other, abs=1e-12)
    assert mean.low < mean.difference < mean.high
    assert mean.p == pytest.approx(stats.wilcoxon(np.nanmean(first - second, axis=1)).pvalue, abs=1e-12)


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03, 0.5], [0.2], [0.02, 0.02, 0.9, 0.001, 0.02], []])
def test_holm(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="holm")[1] if p_values else []
    assert holm(p_values) == pytest.approx(list(expected), abs=1e-15)


def test_the_mean_is_corrected_over_the_pairs(pair: tuple[np.ndarray, np.ndarray]) -> None:
    models = {"A": scores_of(pair[0]), "B": scores_of(pair[1]), "C": scores_of(pair[0] + 0.001)}
    means = [pair.mean for pair in compare_models(models).pairs]
    assert [mean.p_holm for mean in means] == pytest.approx(
        list(multipletests([mean.p for mean in means], method="holm")[1]), abs=1e-15
    )


def test_rank_sums_by_hand() -> None:
    differences = np.array([0.1, 0.2, 0.3, -0.4, 0.0])  # ranks 1, 2, 3 for, 4 against, zero left out
    assert rank_biserial(differences) == pytest.approx((1 + 2 + 3 - 4) / 10)
    assert signed_rank_p(differences) == pytest.approx(14 / 16)  # 14 of 16 sign patterns have a rank sum of 4 .. 6
    assert rank_biserial(np.zeros(3)) == 0
    assert signed_rank_p(np.zeros(3)) == 1


@pytest.mark.parametrize("cases", [1, 5, 11, 30, 50])
def test_the_exact_test_is_scipys(cases: int) -> None:
    differences = np.random.default_rng(cases).normal(0.3, 1, cases)
    assert signed_rank_p(differences) == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue, rel=1e-9)


@pytest.mark.parametrize("cases", [4, 7, 9])
def test_with_ties_it_is_scipys_permutation_test(cases: int) -> None:
    differences = np.random.default_rng(cases).integers(1, 4, cases) * np.where(np.arange(cases) % 3, 0.5, -0.5)
    expected = stats.wilcoxon(differences, method=stats.PermutationMethod()).pvalue
    assert signed_rank_p(differences) == pytest.approx(expected, rel=1e-9)


def test_many_cases_are_tested_by_scipys_approximation() -> None:
    differences = np.random.default_rng(0).normal(0.02, 1, 3000).round(1)
    expected = stats.wilcoxon(differences, zero_method="wilcox", method="asymptotic").pvalue
    assert signed_rank_p(differences) == pytest.approx(expected, rel=1e-9)


def test_zeros_do_not_make_few_differences_look_like_many() -> None:
    differences = np.array([0.0] * 20 + [0.1, 0.2, 0.3, 0.4, 0.5])
    assert signed_rank_p(differences) == pytest.approx(2 / 2**5)


def test_models_the_other_way_round(pair: tuple[np.ndarray, np.ndarray]) -> None:
    there, back = (compare(scores_of(one), scores_of(other)) for one, other in (pair, pair[::-1]))
    for key in ("difference", "low", "high", "p_holm", "effect"):
        assert getattr(there.columns["liver"], key) == pytest.approx(getattr(back.turned().columns["liver"], key))
    assert there.columns["liver"].difference < 0 < back.columns["liver"].difference
    assert there.columns["liver"].low < there.columns["liver"].high < 0
    assert (there.better(None), there.turned().better(None), back.better(None)) == ("B", "B", "A")
    assert back.turned().first == "B"


@pytest.mark.parametrize("several", ["AB", "A", "B"])
def test_trainings_count_alike_whichever_model_comes_first(several: str) -> None:
    """Two of three trainings of each model are a little below the mean, one is far above it."""
    random = np.random.default_rng(3)
    first, second = (random.normal(0.8 + shift, 0.02, (30, 4)) for shift in (0.0, 0.01))
    models = {"A": scores_of(first), "B": scores_of(second)}
    trainings = {
        name: [scores_of(values + effect) for effect in (-0.02, -0.02, 0.04)]
        for name, values in zip("AB", (first, second), strict=True)
        if name in several
    }
    there = compare_models(models, trainings).pairs[0]
    back = compare_models(dict(reversed(models.items())), trainings).pairs[0].turned()
    assert (there.first, back.first) == ("A", "A")
    for key in ("difference", "low", "high"):
        assert getattr(there.mean, key) == pytest.approx(getattr(back.mean, key), abs=1e-12)
    middle = there.mean.difference - (there.mean.low + there.mean.high) / 2
    assert round(middle / 0.02) == {"A": -1, "B": 1}.get(several, 0), "the good training of A is on the side of A"


def test_a_model_against_itself() -> None:
    scores = scores_of(np.random.default_rng(0).random((30, 4)))
    result = compare(scores, scores)
    assert result.mean.difference == 0
    assert result.mean.p_holm == 1
    assert result.mean.outcome is Outcome.NO_DIFFERENCE


def test_chance_is_not_taken_for_a_difference() -> None:
    """Models that differ by chance alone: of 30 pairs, one or two may be called different at 5 %."""
    random = np.random.default_rng(5)
    results = []
    for _ in range(30):
        base = random.beta(18, 3, (20, 4))
        results.append(compare(*(scores_of(base + random.normal(0, 0.02, base.shape)) for _ in range(2))))
    assert sum(result.better(None) is not None for result in results) <= 4
    assert sum(any(map(result.better, result.columns)) for result in results) <= 4


def test_less_is_better_of_a_distance(pair: tuple[np.ndarray, np.ndarray]) -> None:
    result = compare_models({"A": scores_of(pair[0]), "B": scores_of(pair[1])}, metric="hd95_mm")
    assert result.pairs[0].better(None) == "A"
    assert result.best(None) == "A"
    assert result.ranking[0].model == "A"
    assert "misses the organ" in result.statement
    with pytest.raises(ValueError, match="cannot be compared by 'volume_ml'; take one of dice"):
        compare_models({}, metric="volume_ml")


def test_cases_that_one_model_lacks_are_left_out() -> None:
    values = np.random.default_rng(0).random((12, 4))
    first, second = scores_of(values), scores_of(values - 0.1)
    for column in first.values():
        del column["0"]
    second["liver"]["3"] = NAN
    result = compare(first, second)
    assert result.cases == 11
    assert result.columns["liver"].cases == 10
    assert result.columns["aorta"].difference == pytest.approx(0.1)


def test_models_without_a_case_or_an_organ_in_common() -> None:
    first, second = {"liver": {"a": 0.5}}, {"liver": {"b": 0.5}, "aorta": {"b": 0.5}}
    result = compare_models({"A": first, "B": second})
    pair = result.pairs[0]
    assert list(pair.columns) == ["liver", "aorta"]
    assert (pair.columns["aorta"].cases, pair.columns["aorta"].outcome) == (0, Outcome.NO_CASE)
    assert math.isnan(pair.columns["aorta"].difference)
    assert math.isnan(pair.mean.p_holm)
    assert result.best("aorta") is None
    assert result.ranking == ()


def rare_organ(others_differ: bool) -> Difference:
    """Thirteen organs in 20 cases, the gallbladder in 8 of them, where one model is always better."""
    random = np.random.default_rng(0)
    first = {f"organ{k}": {f"c{i:02d}": 0.8 + 0.01 * random.random() for i in range(20)} for k in range(12)}
    less = (0.05, 0.01) if others_differ else (-0.005, 0.01)
    second = {
        name: {case: value - less[0] - less[1] * random.random() for case, value in values.items()}
        for name, values in first.items()
    }
    first["gallbladder"] = {f"c{i:02d}": 0.8 for i in range(8)}
    second["gallbladder"] = {f"c{i:02d}": 0.6 - 0.01 * i for i in range(8)}
    return compare(first, second).columns["gallbladder"]


def test_a_rare_organ_is_tested_at_its_place_in_holms_order() -> None:
    last = rare_organ(others_differ=True)
    assert last.p_holm == pytest.approx(2 / 2**8), "all other tests have a smaller p: a factor of one"
    assert (last.cases_needed, last.better("A", "B")) == (6, "A")
    first = rare_organ(others_differ=False)
    assert first.p_holm == pytest.approx(13 * 2 / 2**8)
    assert (first.cases_needed, first.tests, first.outcome) == (10, 13, Outcome.TOO_FEW)


def test_one_model_and_none() -> None:
    assert compare_models({}).pairs == ()
    one = compare_models({"A": {"liver": {"a": 0.5}}})
    assert one.pairs == ()
    assert one.ranking[0].mean == 0.5


def test_the_same_scores_give_the_same_comparison() -> None:
    values = np.random.default_rng(0).random((12, 4))
    models = {"A": scores_of(values), "B": scores_of(values**2)}
    assert compare_models(models) == compare_models(models)
