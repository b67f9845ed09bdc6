import re

from tests.report.studies import model, random_model
from unetr_nnunet.report.answer import answer, difference_section, pair_words
from unetr_nnunet.report.models import gather


def test_one_model() -> None:
    words = answer(gather([random_model("UNETR", 12)]))
    assert re.match(
        r"UNETR reaches a mean Dice of 0\.\d{3} \(95 % interval 0\.\d{3} to 0\.\d{3}, 12 cases\), from ", words
    )
    assert "spleen" in words
    assert "liver" in words


def test_a_clear_winner_is_called_better_by_how_much() -> None:
    words = answer(gather([random_model("A", 12, mean=0.7), random_model("B", 12, mean=0.8, seed=1)]))
    assert re.search(r"^B has the highest mean Dice.*; it is better than A by \+0\.1\d\d, 95 % interval \+0\.", words)
    assert "p < 0.001" in words


def test_equal_models_are_not_told_apart() -> None:
    words = answer(gather([random_model("A", 12, seed=1), random_model("B", 12, seed=2)]))
    assert "there is no evidence of a difference from" in words
    assert re.search(r"interval \u22120\.\d{3} to \+0\.\d{3}, p = ", words), "a minus, as in the page's tables"
    assert "better" not in words


def test_few_cases_and_one_case_are_named_as_such() -> None:
    words = answer(gather([random_model("A", 4, mean=0.5), random_model("B", 4, mean=0.9)]))
    assert "the cases are too few to tell it from A" in words
    assert "better" not in words
    assert "no interval from so few cases, 1 case" in answer(gather([random_model("A", 1)]))


def test_several_models() -> None:
    models = [
        random_model(name, 20, mean=mean, seed=place)
        for place, (name, mean) in enumerate(zip("ABCD", (0.9, 0.9, 0.6, 0.5), strict=True))
    ]
    words = answer(gather(models))
    assert "it is better than 2 of 3 others; there is no evidence of a difference from" in words
    models[1] = random_model("B", 20, mean=0.8, seed=1)
    assert "it is better than all 3 others (nearest: B, +0." in answer(gather(models))
    few = [random_model(each.name, 10, mean=0.8, seed=place) for place, each in enumerate(models)]
    assert "any other" in answer(gather(few))


def test_models_without_common_cases() -> None:
    study = gather([model("A", {"liver": {"a": 0.5}}), model("B", {"liver": {"b": 0.6}})])
    assert "cannot be ranked" in answer(study)
    study = gather([model("A", {"liver": {"a": 0.5, "b": 0.9}}), model("B", {"liver": {"b": 0.8}})])
    assert "A ranks first on the 1 case that every model has (mean Dice 0.900)" in answer(study)


def test_the_highest_mean_is_claimed_only_where_it_is_one() -> None:
    easy, hard = {"a": 0.9, "b": 0.9}, {"a": 0.5, "b": 0.1}
    study = gather(
        [model("A", {"liver": easy, "aorta": hard}), model("B", {"liver": {"a": 0.8, "b": 0.8}, "aorta": {"a": 0.5}})]
    )
    assert study.overall["A"].mean < study.overall["B"].mean, "A is measured on what B missed, too"
    assert "A ranks first by the values that every model has (mean Dice 0.700, 2 cases)" in answer(study)


def test_ranks_without_a_settled_mean_are_called_so_in_the_answer_and_in_the_table() -> None:
    """Fourteen cases a little better, one much worse: p is 0.008, and the interval of the mean holds 0."""
    less = [*[0.01] * 14, -0.18]
    first = {f"c{case:02d}": 0.8 for case in range(15)}
    second = {f"c{case:02d}": 0.8 - each - 0.0001 * case for case, each in enumerate(less)}
    study = gather([model("A", {"liver": first}), model("B", {"liver": second})])
    words = answer(study)
    assert study.models[0].name == "B", "by the mean"
    assert "ranks favour A over it, but the mean difference is not settled (+0." in words
    assert "p = 0.008)" in words
    assert "no evidence" not in words
    assert study.comparison is not None
    (pair,) = study.comparison.pairs_of("B")
    assert pair_words(pair.mean, "B", "A") == "ranks favour A, the mean is not settled"


def test_a_first_rank_on_few_shared_cases_does_not_hide_who_is_better() -> None:
    cases = [f"c{case:02d}" for case in range(20)]
    one = {case: 0.9 if case == "c00" else 0.5 for case in cases}
    other = {case: 0.8 + place / 1000 for place, case in enumerate(cases)}
    study = gather([model("A", {"liver": one}), model("B", {"liver": other}), model("C", {"liver": {"c00": 0.1}})])
    words = answer(study)
    assert words.startswith("A ranks first on the 1 case that every model has (mean Dice 0.900); ")
    assert "; the test favours B on the cases that both have; the cases are too few for 3 comparisons to tell" in words


def test_models_share_the_highest_mean() -> None:
    equal = {"liver": {f"c{case}": 0.5 + case / 20 for case in range(8)}}
    assert answer(gather([model("A", equal), model("B", equal)])) == (
        "A and B share the highest mean Dice, 0.675 (8 cases); there is no difference between A and B (+0.000, "
        "95 % interval +0.000 to +0.000, p = 1.000)."
    )
    third = {"liver": {case: value - 0.2 for case, value in equal["liver"].items()}}
    words = answer(gather([model("A", equal), model("C", third), model("B", equal)]))
    assert words.startswith("A and B share the highest mean Dice, 0.675 (8 cases); A is better than 1 of 2 others; ")
    assert "there is no difference between A and B (nearest: B" in words
    less = {"liver": {**equal["liver"], "c8": 0.1}}
    shared = answer(gather([model("A", equal), model("B", less)]))
    assert shared.startswith("A and B share the first rank on the 8 cases that every model has (mean Dice 0.675); ")


def test_no_value_at_all() -> None:
    assert "nothing to say" in answer(gather([model("A", {"liver": {"a": float("nan")}})]))


# ---- paired differences ----


def test_one_model_has_no_differences() -> None:
    assert difference_section(gather([random_model("A", 6)])) is None


def test_the_leader_is_compared_with_every_other() -> None:
    models = [
        random_model(name, 20, mean=mean, seed=seed)
        for seed, (name, mean) in enumerate((("A", 0.6), ("B", 0.9), ("C", 0.9)))
    ]
    content = difference_section(gather(models))
    assert content is not None
    assert content["leader"] in ("B", "C")
    last = content["pairs"][-1]
    assert last["other"] == "A"
    assert [row["organ"] for row in last["rows"]] == ["mean of organs", "spleen", "liver"]
    assert {row["words"] for row in last["rows"]} == {f"{content['leader']} is better"}
    assert "better" not in content["pairs"][0]["rows"][0]["words"]
    matrix = dict(content["matrix"])
    names = content["names"]
    assert matrix["A"][names.index("B")].difference == -matrix["B"][names.index("A")].difference
    assert matrix["A"][names.index("A")] is None
    assert content["ranking"][-1][0] == "A"
