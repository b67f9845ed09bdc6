import math
from dataclasses import replace

import pytest

from tests.report.studies import model, random_model
from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.evaluation.protocols import ProtocolDescription
from unetr_nnunet.report.models import gather, organ_label, shorten, some


def test_models_are_put_in_the_order_of_their_means() -> None:
    study = gather([random_model("low", 8, mean=0.6), random_model("high", 8, mean=0.9, seed=1)])
    assert [each.name for each in study.models] == ["high", "low"]
    assert study.comparison is not None
    assert len(study.comparison.pairs) == 1
    assert len(study.cases) == len(study.shared_cases) == 8


def test_means_on_paper() -> None:
    study = gather([model("m", {"liver": {"a": 0.5, "b": 1.0}, "spleen": {"a": 0.25, "b": math.nan}})])
    assert study.case_means(study.models[0]) == {"a": 0.375, "b": 1.0}
    overall = study.overall["m"]
    assert overall.mean == (0.75 + 0.25) / 2, "organs first, as nnU-Net has it"
    assert (overall.median, overall.cases) == (0.6875, 2)
    assert math.isnan(overall.low)


def test_what_does_not_go_together_is_refused() -> None:
    one = model("m", {"liver": {"a": 0.5}})
    with pytest.raises(ValueError, match="no model to report on; x could not be read"):
        gather([], ["x could not be read"])
    with pytest.raises(ValueError, match="two models are called 'm'"):
        gather([one, one])
    other = model("n", {"liver": {"a": 0.5}}, protocol=ProtocolDescription("synapse-8", "", ""))
    with pytest.raises(ValueError, match=r"different protocols, 'nnunet' \(m\), 'synapse-8' \(n\)"):
        gather([one, other])
    with pytest.raises(ValueError, match="no organ in common"):
        gather([one, model("n", {"aorta": {"a": 0.5}})])
    with pytest.raises(ValueError, match="no case could be scored; the first reason: cut short"):
        gather([model("n", {"liver": {}}, refused={"a": "cut short"})])


def test_problems_are_named() -> None:
    first = model("first", {"liver": {"a": 0.5, "b": 0.6}, "aorta": {"a": math.nan}}, notes=("fold 3 is missing",))
    second = model("second", {"liver": {"a": 0.5}, "aorta": {}, "lesion": {"a": 1}}, refused={"b": "a damaged gzip"})
    third = model("third", {"liver": {"a": 0.5}, "aorta": {}}, without_label=["x"])
    problems = "\n".join(gather([first, second, third]).problems)
    assert "second: lesion left out" in problems
    assert "aorta: no case has a value" in problems
    assert "second: b was refused: a damaged gzip" in problems
    assert "third: no figures of 1 case(s) that another model has: b" in problems
    assert "third: no label for x" in problems
    assert "first: fold 3 is missing" in problems


def test_cases_that_nobody_predicted_are_listed_beside_those_that_one_model_lacks() -> None:
    def scored(name: str, cases: str, absent: list[str]) -> ModelResults:
        results = model(name, {"liver": dict.fromkeys(cases, 0.5)}, without_prediction=absent)
        figures = results.evaluation.cases.items()
        named = {case: replace(each, label=f"l/label_{case}.nii.gz") for case, each in figures}
        return replace(results, evaluation=replace(results.evaluation, cases=named))

    problems = gather(
        [scored("A", "ac", ["label_b", "label_x", "label_y"]), scored("B", "ab", ["label_c", "label_x", "label_y"])]
    ).problems
    assert "A: no figures of 1 case(s) that another model has: b" in problems
    assert "B: no figures of 1 case(s) that another model has: c" in problems
    assert "every model: no prediction for label_x, label_y" in problems
    assert len(problems) == 3, "label_b and label_c are named already"


def test_names_of_files_are_not_shortened() -> None:
    path = "/results/nnUNetTrainerUNETR_FPN__nnUNetPlans__3d_fullres/fold_0/metrics.json"
    notes = (f"{path} is damaged",)
    names = ("nnUNetTrainerUNETR_FPN", "nnUNetTrainerUNETR_CNNStem")
    models = [model(name, {"liver": {"a": 0.5}}, notes=notes) for name in names]
    study = gather([*models, model("nnUNetTrainer", {"liver": {"a": 0.5}})], [f"{path} could not be read: no case"])
    assert [study.shorten_owner(problem) for problem in study.problems] == [
        f"{path} could not be read: no case",
        f"UNETR_FPN, UNETR_CNNStem: {path} is damaged",
    ]


def test_what_several_models_lack_is_said_once() -> None:
    models = [model(name, {"liver": {"a": 0.5}}, notes=("fold 1 is missing",)) for name in "ABC"]
    assert gather(models).problems == ("every model: fold 1 is missing",)
    models[2] = model("C", {"liver": {"a": 0.5}})
    assert gather(models).problems == ("A, B: fold 1 is missing",)
    assert gather(models[:1]).problems == ("A: fold 1 is missing",)


def test_long_lists_are_cut() -> None:
    assert some([str(number) for number in range(15)]).endswith("11 and 3 more")


# ---- names ----


def test_what_all_names_share_is_left_out() -> None:
    names = [f"nnUNetTrainerUNETR{middle}_Tiny_4epochs_seed{seed}" for middle in ("", "_FPN") for seed in (0, 1)]
    assert list(shorten(names).values()) == ["UNETR_seed0", "UNETR_seed1", "UNETR_FPN_seed0", "UNETR_FPN_seed1"]


def test_a_family_leaves_out_what_it_shares() -> None:
    names = ["nnUNetTrainer", "nnUNetTrainerUNETR_Tiny", "nnUNetTrainerUNETR_FPN_Tiny"]
    assert list(shorten(names).values()) == ["nnUNetTrainer", "UNETR", "UNETR_FPN"]


def test_plans_and_configuration_that_all_share_are_left_out() -> None:
    names = [f"nnUNetTrainerUNETR_{part}_4epochs_seed0 demo" for part in ("FPN", "CNNStem")]
    assert list(shorten(names).values()) == ["UNETR_FPN", "UNETR_CNNStem"]
    assert list(shorten(["a 2d", "a 3d_fullres"]).values()) == ["a 2d", "a 3d_fullres"]


def test_names_stay_different() -> None:
    names = ["A_x", "A_x_x", "nnUNetTrainerB", "B"]
    short = shorten(names)
    assert len(set(short.values())) == len(names)
    assert shorten(["one_model"]) == {"one_model": "one_model"}


def test_organs_are_named_without_underscores() -> None:
    assert organ_label("left_kidney") == "left kidney"
