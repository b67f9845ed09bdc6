import json

import pytest

from unetr_nnunet.dataset_conversion.splits import SourceSplit, case_id, read_monai_list


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_held_out_cases_never_train():
    split = SourceSplit("x", test=(2, 3))
    assert split.chosen_training([1, 2, 3, 4]) == (1, 4)
    assert split.chosen_test([61]) == (2, 3)


def test_without_lists_everything_is_taken():
    split = SourceSplit("x")
    assert split.chosen_training([4, 1]) == (1, 4)
    assert split.chosen_test([61]) == (61,)
    assert split.splits_final("BTCV") == []
    assert split.problems([], []) == []


def test_monai_list_reads_the_lists_and_ignores_num_training(tmp_path):
    content = {
        "numTraining": 80,
        "training": [{"image": "a1/img0002.nii.gz"}, {"image": "img0001.nii.gz"}],
        "validation": [{"image": "BTCV_0003_0000.nii.gz"}],
        "test": ["img0061.nii.gz", {"image": "img0062.nii"}],
    }
    split = read_monai_list(write(tmp_path / "dataset_0.json", content))
    assert split == SourceSplit("dataset_0.json", (1, 2, 3), (((1, 2), (3,)),), (61, 62))
    assert split.splits_final("BTCV") == [{"train": ["BTCV_0001", "BTCV_0002"], "val": ["BTCV_0003"]}]


def test_monai_list_without_validation_leaves_the_folds_to_nnunet(tmp_path):
    split = read_monai_list(write(tmp_path / "list.json", {"training": ["img0001.nii.gz"], "test": []}))
    assert split.folds == ()
    assert split.test is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no .training. list"),
        ({"training": []}, "no .training. list"),
        ({"training": ["liver.nii.gz"]}, "four-digit"),
        ({"training": [{"label": "label0001.nii.gz"}]}, "four-digit"),
        ({"training": ["img0001.nii.gz"], "validation": ["img0001.nii.gz"]}, r"cases \[1\]"),
        ({"training": ["img0001.nii.gz"], "test": ["img0001.nii.gz"]}, r"cases \[1\]"),
    ],
)
def test_wrong_lists(content, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_monai_list(write(tmp_path / "list.json", content))


def test_not_json(tmp_path):
    path = tmp_path / "list.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not JSON"):
        read_monai_list(path)


def test_case_id():
    assert case_id("BTCV", 7) == "BTCV_0007"
