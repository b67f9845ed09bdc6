import json
from copy import deepcopy

import pytest

from unetr_nnunet.nnunet.plans_file import (
    SHARED_BY_CONFIGURATION,
    SHARED_BY_PLANS,
    read_plans,
    share_preprocessed_data,
    write_plans,
)

DEFAULT = {key: f"default {key}" for key in SHARED_BY_PLANS} | {
    "configurations": {
        name: {"data_identifier": f"nnUNetPlans_{name}", "batch_size": 12}
        | {key: f"{name} {key}" for key in SHARED_BY_CONFIGURATION}
        for name in ("2d", "3d_fullres")
    }
}


def our_plans(**changes):
    plans = deepcopy(DEFAULT) | changes
    for name, configuration in plans["configurations"].items():
        configuration |= {"data_identifier": f"UNETRPlans_{name}", "batch_size": 2}
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres"}
    return plans


def test_equal_data_is_shared():
    plans = our_plans()
    assert share_preprocessed_data(plans, DEFAULT) == ["2d", "3d_fullres"]
    assert plans["configurations"]["3d_fullres"]["data_identifier"] == "nnUNetPlans_3d_fullres"
    assert plans["configurations"]["3d_fullres"]["batch_size"] == 2


@pytest.mark.parametrize("key", SHARED_BY_CONFIGURATION)
def test_a_configuration_that_differs_keeps_its_own(key):
    plans = our_plans()
    plans["configurations"]["2d"][key] = "another"
    assert share_preprocessed_data(plans, DEFAULT) == ["3d_fullres"]
    assert plans["configurations"]["2d"]["data_identifier"] == "UNETRPlans_2d"


@pytest.mark.parametrize("key", SHARED_BY_PLANS)
def test_plans_that_differ_share_nothing(key):
    assert share_preprocessed_data(our_plans(**{key: "another"}), DEFAULT) == []


def test_a_configuration_that_nnunet_has_not_is_not_shared():
    plans = our_plans()
    plans["configurations"]["3d_lowres"] = plans["configurations"].pop("2d")
    assert share_preprocessed_data(plans, DEFAULT) == ["3d_fullres"]


def test_configurations_that_someone_added_are_kept_and_old_ones_go(tmp_path):
    path = tmp_path / "folder" / "plans.json"
    write_plans({"configurations": {"3d_fullres": {"a": 1}, "3d_lowres": {}, "3d_fullres_bs4": {"a": 3}}}, path)
    write_plans({"configurations": {"3d_fullres": {"a": 4}}}, path)
    assert json.loads(path.read_text()) == {"configurations": {"3d_fullres": {"a": 4}, "3d_fullres_bs4": {"a": 3}}}
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_file_before(tmp_path):
    path = tmp_path / "plans.json"
    write_plans({"configurations": {"2d": {}}}, path)
    with pytest.raises(TypeError):
        write_plans({"configurations": {"2d": object()}}, path)
    assert json.loads(path.read_text()) == {"configurations": {"2d": {}}}
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_and_files_that_are_no_plans(tmp_path):
    path = tmp_path / "plans.json"
    assert read_plans(path) is None
    for content, message in (
        ("{", "is damaged: Invalid JSON"),
        ("[]", "is damaged: Input should be an object"),
        ('{"configurations": {"2d": 1}}', "not a plans file"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=f"{message}.*[;:] do this"):
            read_plans(path, "do this")
