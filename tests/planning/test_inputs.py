import json

import pytest

from unetr_nnunet.planning.inputs import (
    channel_names,
    check_dataset,
    check_options,
    check_plans_name,
    has_ct,
    read_labels,
)
from unetr_nnunet.planning.sizing import Given


def refused(call, *words):
    """Return the message with which a call is refused, which is one line."""
    with pytest.raises(ValueError, match=r".") as caught:
        call(*words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_data_set_is_found(make_dataset):
    make_dataset()
    assert check_dataset(17) == "Dataset017_Abdomen"


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed"])
def test_a_folder_that_is_not_set(make_dataset, monkeypatch, variable):
    make_dataset()
    monkeypatch.delenv(variable)
    message = refused(check_dataset, 17)
    assert variable in message
    assert "unetr_nnunet env" in message


def test_an_unknown_and_an_ambiguous_number(make_dataset):
    raw, _ = make_dataset()
    assert "data set 18 is not there" in refused(check_dataset, 18)
    raw.with_name("Dataset017_Other").mkdir()
    assert "is ambiguous (Dataset017_Abdomen, Dataset017_Other)" in refused(check_dataset, 17)


def test_a_missing_fingerprint_names_the_command(make_dataset):
    _, preprocessed = make_dataset()
    (preprocessed / "dataset_fingerprint.json").unlink()
    message = refused(check_dataset, 17)
    assert f"{preprocessed / 'dataset_fingerprint.json'} cannot be read" in message
    assert "nnUNetv2_extract_fingerprint -d 17" in message
    assert "nnUNetv2_plan_and_preprocess -d 17 --no_pp" in message


def test_a_fingerprint_of_another_version(make_dataset):
    _, preprocessed = make_dataset()
    path = preprocessed / "dataset_fingerprint.json"
    content = json.loads(path.read_text())
    del content["shapes_after_crop"]
    path.write_text(json.dumps(content))
    assert "has no shapes_after_crop: run nnUNetv2_extract_fingerprint" in refused(check_dataset, 17)
    for spacings in ([[0, 1, 1]], [[1, 1]]):
        path.write_text(json.dumps({**content, "shapes_after_crop": [[9, 9, 9]], "spacings": spacings}))
        assert "has spacings that are not three positive lengths: run nnUNetv2" in refused(check_dataset, 17)
    path.write_text("{")
    assert "dataset_fingerprint.json is damaged" in refused(check_dataset, 17)
    path.write_text("[]")
    assert "should be an object" in refused(check_dataset, 17)


@pytest.mark.parametrize("content", [{"channel_names": {}}, {"channel_names": None, "modality": {}}])
def test_a_data_set_without_channels(make_dataset, content):
    raw, _ = make_dataset(**content)
    message = refused(check_dataset, 17)
    assert message == f'{raw / "dataset.json"} has no channel: add "channel_names": {{"0": "CT"}}'


def test_a_dataset_json_that_lacks_what_plans_need(make_dataset):
    raw, _ = make_dataset()
    path = raw / "dataset.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: content[key] for key in ("channel_names", "labels")}))
    assert f"{path} has no numTraining, file_ending" in refused(check_dataset, 17)
    path.unlink()
    assert f"{path} cannot be read" in refused(check_dataset, 17)


@pytest.mark.parametrize(
    ("channels", "names", "ct"),
    [
        ({"channel_names": {"0": "CT"}}, ["CT"], True),
        ({"channel_names": {"0": "T1", "1": "ct"}}, ["T1", "ct"], True),
        ({"modality": {"0": "MRI"}}, ["MRI"], False),
    ],
)
def test_ct_is_what_nnunet_normalises_as_ct(channels, names, ct):
    assert channel_names(channels) == names
    assert has_ct(channels) is ct


def test_labels_and_regions():
    labels = read_labels({"labels": {"background": 0, "a": 1, "b": 2, "ignore": 3}}, "raw")
    assert (labels.num_segmentation_heads, labels.has_regions, labels.has_ignore_label) == (3, False, True)
    regions = {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}
    labels = read_labels(regions, "raw")
    assert (labels.num_segmentation_heads, labels.has_regions) == (2, True)
    assert "raw/dataset.json: nnU-Net refuses its labels (Background" in refused(
        read_labels, {"labels": {"a": 1}}, "raw"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gib": 0}, "--gpu-memory 0"),
        ({"gib": float("nan")}, "--gpu-memory nan"),
        ({"gib": float("inf")}, "--gpu-memory inf"),
        ({"tflop": 0}, "--tflop-per-step 0"),
        ({"tflop": float("nan")}, "--tflop-per-step nan"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "--spacing 1 0 1: must"),
        ({"spacing_mm": (1.0, float("inf"), 1.0)}, "--spacing 1 inf 1: must"),
        ({"spacing_mm": (1.0, 1.0)}, "--spacing"),
        ({"patch_size": (96, 96, 96, 96)}, "--patch-size"),
        ({"patch_size": (96, 0, 96)}, "--patch-size 96 0 96: three"),
        ({"token_size": (16,)}, "--token-size 16: Z Y X"),
        ({"token_size": (12, 16, 16)}, "--token-size 12 16 16: Z Y X, or Y X for 2d, each one of 1, 2, 4, 8, 16"),
        ({"token_size": (16, 16), "patch_size": (96, 96, 96)}, "--token-size 16 16 and --patch-size 96 96 96: must"),
        ({"batch_size": 0}, "--batch-size 0"),
    ],
)
def test_senseless_numbers_are_refused(options, message):
    assert refused(check, options).startswith(message)


def test_sensible_numbers_are_not():
    check({})
    check({"gib": 0.5, "tflop": 0.1, "spacing_mm": (3.0, 0.8, 0.8), "patch_size": (512, 512), "batch_size": 1})
    check({"token_size": (4, 16, 16)})


def check(options):
    gib, spacing_mm, tflop = (options.pop(name, default) for name, default in DEFAULTS.items())
    check_options(gib, spacing_mm, Given(**options), tflop)


DEFAULTS = {"gib": 8, "spacing_mm": None, "tflop": None}


def test_the_name_of_plans(tmp_path):
    check_plans_name(tmp_path / "UNETRPlans_Modified.json", "UNETRPlanner")
    for name in ("a__b", "a b", "a-b"):
        assert repr(name) in refused(check_plans_name, tmp_path / f"{name}.json", "UNETRPlanner")


def test_plans_of_another_planner_are_not_replaced(tmp_path):
    path = tmp_path / "nnUNetPlans.json"
    path.write_text(json.dumps({"configurations": {}, "experiment_planner_used": "ExperimentPlanner"}))
    assert f"{path} was made by ExperimentPlanner: take another --name" in refused(
        check_plans_name, path, "UNETRPlanner"
    )
    path.write_text(json.dumps({"configurations": {}, "experiment_planner_used": "UNETRPlanner"}))
    check_plans_name(path, "UNETRPlanner")
