import math
from dataclasses import replace

import pytest

from tests.report.studies import model, random_model
from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.report.study import gather, some


def test_models_are_put_in_the_order_of_their_means() -> None:
    study = gather([random_model("low", 8, mean=0.6), random_model("high", 8, mean=0.9, seed=1)])
    assert [each.name for each in study.models] == ["high", "low"]
    assert study.comparisons == 1
    assert len(study.cases) == len(study.shared_cases) == 8


def test_means_on_paper() -> None:
    study = gather([model("m", {"liver": {"a": 0.5, "b": 1.0}, "spleen": {"a": 0.25, "b": math.nan}})])
    assert study.case_means(study.models[0]) == {"a": 0.375, "b": 1.0}
    assert study.overall["m"]["mean"] == (0.75 + 0.25) / 2, "organs first, as nnU-Net has it"
    assert study.overall["m"]["median"] == 0.6875
    assert study.overall["m"]["cases"] == 2
    assert study.overall["m"]["low"] is None


def test_a_missing_value_may_be_null() -> None:
    study = gather([model("m", {"liver": {"a": 0.5, "b": None}})])  # type: ignore[dict-item] # as JSON has it
    assert study.case_means(study.models[0]) == {"a": 0.5}


def test_what_does_not_go_together_is_refused() -> None:
    one = model("m", {"liver": {"a": 0.5}})
    with pytest.raises(ValueError, match="no model to report on; x could not be read"):
        gather([], ["x could not be read"])
    with pytest.raises(ValueError, match="two models are called 'm'"):
        gather([one, one])
    other = model("n", {"liver": {"a": 0.5}}, protocol={"name": "synapse-8", "statement": "", "source": ""})
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
        files = {case: {"prediction": f"p/{case}.nii.gz", "label": f"l/label_{case}.nii.gz"} for case in cases}
        dice = {"liver": dict.fromkeys(cases, 0.5)}
        return model(name, dice, files=files, without_prediction=absent)

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


def test_an_evaluation_without_protocol_has_its_rule() -> None:
    plain = model("m", {"liver": {"a": 0.5}})
    old = {key: value for key, value in plain.evaluation.items() if key != "protocol"}
    study = gather([replace(plain, evaluation={**old, "rule": {"name": "unetr", "statement": "0 where absent"}})])
    assert study.protocol()["name"] == "unetr"
    assert study.protocol()["statement"] == "0 where absent"


def test_long_lists_are_cut() -> None:
    assert some([str(number) for number in range(15)]).endswith("11 and 3 more")
