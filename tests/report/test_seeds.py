import math
from dataclasses import replace

import pytest

from tests.report.studies import model, random_model
from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.report.answer import answer
from unetr_nnunet.report.models import gather
from unetr_nnunet.report.seeds import name_without_seed, pool_seeds


def seeded(name: str, dice: dict[str, dict[str, float]], seed: int) -> ModelResults:
    return model(f"{name}_seed{seed}", dice, seed=seed)


def test_a_models_figures_are_means_over_its_seeds() -> None:
    trainings = [
        seeded("A", {"liver": {"a": 0.5, "b": math.nan}, "aorta": {"a": 0.1, "b": math.nan}}, 2),
        seeded("A", {"liver": {"a": 0.7, "b": 0.4}, "aorta": {"a": 0.3, "b": math.nan}}, 0),
        model("B", {"liver": {"a": 0.6, "b": 0.6}, "aorta": {"a": 0.6, "b": 0.6}}),
    ]
    (pooled, other), seeds = pool_seeds(trainings)
    assert (pooled.name, other.name) == ("A", "B")
    assert pooled.evaluation.scores()["liver"]["a"] == pytest.approx(0.6)
    assert math.isnan(pooled.evaluation.scores()["liver"]["b"]), "one seed has no value"
    assert pooled.evaluation.scores()["aorta"]["a"] == pytest.approx(0.2)
    assert math.isnan(pooled.evaluation.scores()["aorta"]["b"])
    assert [each.seed for each in seeds["A"]] == [0, 2]


def test_one_seed_that_paints_an_absent_organ_does_not_stand_for_all() -> None:
    trainings = [
        seeded(
            "A",
            {"liver": {f"c{case}": 0.9 if case < 5 else 0.0 if seed == 0 else math.nan for case in range(10)}},
            seed,
        )
        for seed in range(3)
    ]
    assert [gather([each]).overall[each.name].mean for each in trainings] == pytest.approx([0.45, 0.9, 0.9])
    study = gather(trainings)
    assert study.overall["A"].mean == pytest.approx(0.9)
    assert study.overall["A"].cases == 5
    assert study.problems == (
        "A: 5 Dice value(s), each a case's organ, that not every one of the 3 seeds has are left out of the mean over "
        "seeds",
    )


def test_only_the_cases_that_every_seed_has() -> None:
    first, second = seeded("A", {"liver": {"a": 0.5, "b": 0.9}}, 0), seeded("A", {"liver": {"a": 0.7}}, 1)
    (pooled,), _ = pool_seeds([first, second])
    assert pooled.evaluation.scores() == {"liver": {"a": pytest.approx(0.6)}}
    study = gather([first, second])
    assert study.problems == ("A_seed1: no figures of 1 case(s) that another model has: b",)
    apart = [seeded("A", {"liver": {"a": 0.5}}, 0), seeded("A", {"liver": {"b": 0.7}}, 1)]
    assert pool_seeds(apart) == (apart, {}), "no case in common"
    unseeded = [model("A", {"liver": {"a": 0.5}}), *apart[:1]]
    assert pool_seeds(unseeded) == (unseeded, {}), "one without a seed"


def test_names() -> None:
    long = "nnUNetTrainerUNETR_FPN_seed1_4epochs demo"
    assert name_without_seed(model(long, {}, seed=1)) == "nnUNetTrainerUNETR_FPN_4epochs demo"
    assert name_without_seed(model("FPN, seed 1", {}, seed=1)) == "FPN"
    assert name_without_seed(model("A_seed12", {}, seed=1)) == "A_seed12"
    mine = [model("first run", {"liver": {"a": 0.5}}, seed=0), model("second run", {"liver": {"a": 0.5}}, seed=1)]
    assert pool_seeds(mine) == (mine, {}), "who names each seed has them compared"


def test_seeds_are_no_rivals() -> None:
    trainings = [
        replace(random_model(f"{name}_seed{seed}", 12, mean=mean, seed=10 * place + seed), seed=seed)
        for place, (name, mean) in enumerate((("A", 0.8), ("B", 0.7)))
        for seed in (0, 1, 2)
    ]
    study = gather(trainings)
    assert [each.name for each in study.models] == ["A", "B"]
    assert study.comparison is not None
    assert len(study.comparison.pairs) == 1
    assert "it is better than B by" in answer(study)
    assert [study.short(each) for each in study.trainings[:3]] == ["A, seed 0", "A, seed 1", "A, seed 2"]


def test_what_a_seed_alone_can_bring_is_not_called_better() -> None:
    """Every case says that A is better by 0.01 to 0.02; but one of A's seeds lies 0.06 above the two others."""
    shift = {0: 0.055, 1: -0.005, 2: -0.005}
    dice = {f"c{case}": 0.7 + case / 200 for case in range(20)}
    trainings = [
        seeded(name, {"liver": {case: value + above * (1 + number / 20) for number, (case, value) in cases}}, seed)
        for seed in range(3)
        for name, above in (("A", shift[seed]), ("B", 0.0))
        for cases in [list(enumerate(dice.items()))]
    ]
    study = gather(trainings)
    assert study.comparison is not None
    (pair,) = study.comparison.pairs_of("A")
    assert pair.mean.difference == pytest.approx(0.015 * 1.475)
    for difference in (pair.mean, pair.columns["liver"]):
        assert difference.p_holm < 0.001
        assert difference.low < 0 < difference.high
    assert study.comparison.best(None) is None
    firsts = gather([replace(pool_seeds(trainings)[0][place], name=name) for place, name in enumerate("AB")])
    assert firsts.comparison is not None
    assert firsts.comparison.best(None) == "A", "over the cases alone"
    wide, narrow = study.overall["A"], firsts.overall["A"]
    assert wide.mean == pytest.approx(narrow.mean)
    assert wide.high - wide.low > 1.2 * (narrow.high - narrow.low)
