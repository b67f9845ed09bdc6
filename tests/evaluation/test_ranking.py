"""Against a plain loop over resamples, and cases where the answer is clear."""

import math
import random

import numpy as np
import pytest

from unetr_nnunet.evaluation.ranking import Rank, common_scores, rank_by_mean

CASES = [f"case_{index}" for index in range(12)]


def one_organ(values: np.ndarray) -> dict[str, dict[str, float]]:
    return {"liver": dict(zip(CASES, values.tolist(), strict=True))}


def test_against_a_plain_loop() -> None:
    generator = np.random.default_rng(2)
    base = generator.random(12)
    values = {name: base + generator.normal(0, 0.1, 12) for name in "ABC"}
    found = {row.model: row for row in rank_by_mean({name: one_organ(each) for name, each in values.items()})}
    draw = random.Random(0)
    ranks = {name: [] for name in values}
    for _ in range(4000):
        drawn = draw.choices(range(12), k=12)
        order = sorted(values, key=lambda name: -values[name][drawn].mean())
        for name in values:
            ranks[name].append(order.index(name) + 1)
    for name, each in ranks.items():
        assert found[name].mean == pytest.approx(values[name].mean())
        assert found[name].share_first == pytest.approx(each.count(1) / 4000, abs=0.03)
        assert found[name].low == sorted(each)[100]
        assert found[name].high == sorted(each)[3900]
    assert sorted(found, key=lambda name: found[name].rank) == sorted(values, key=lambda name: -values[name].mean())


def test_a_model_that_is_always_better_is_always_first() -> None:
    base = np.random.default_rng(0).random(12)
    first, second = rank_by_mean({"worse": one_organ(base), "better": one_organ(base + 0.01)})
    assert first == Rank("better", 1, pytest.approx(base.mean() + 0.01), 12, share_first=1.0, low=1, high=1)
    assert (second.rank, second.share_first, second.high) == (2, 0.0, 2)
    backwards = rank_by_mean({"worse": one_organ(base), "better": one_organ(base + 0.01)}, higher_is_better=False)
    assert backwards[0].model == "worse"


def test_equal_models_share_the_rank() -> None:
    base = np.random.default_rng(0).random(12)
    rows = rank_by_mean({"one": one_organ(base), "other": one_organ(base), "last": one_organ(base - 1)})
    assert [(row.model, row.rank, row.share_first) for row in rows] == [
        ("one", 1, 0.5),
        ("other", 1, 0.5),
        ("last", 3, 0.0),
    ]


def test_only_what_every_model_has_counts() -> None:
    first = {"liver": {"a": 0.5, "b": 0.9}, "aorta": {"a": 0.1, "b": math.nan}, "spleen": {"a": 0.0}}
    second = {"aorta": {"a": 0.3, "b": 0.9}, "liver": {"a": 0.5, "c": 0.0}}
    common, cases = common_scores({"first": first, "second": second})
    assert cases == ["a"]
    assert common == {
        "first": {"liver": {"a": 0.5}, "aorta": {"a": 0.1}},
        "second": {"liver": {"a": 0.5}, "aorta": {"a": 0.3}},
    }
    best, other = rank_by_mean({"first": first, "second": second})
    assert (best.model, best.mean, best.cases) == ("second", pytest.approx(0.4), 1)
    assert (other.mean, other.low) == (pytest.approx(0.3), None)
    assert math.isnan(other.share_first)


def test_nothing_in_common() -> None:
    assert rank_by_mean({}) == []
    assert rank_by_mean({"one": {"liver": {"a": 0.5}}, "other": {"liver": {"b": 0.5}}}) == []
    assert rank_by_mean({"one": {"liver": {"a": 0.5}}, "other": {"aorta": {"a": 0.5}}}) == []
