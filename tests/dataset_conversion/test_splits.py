import json

import pytest

from unetr_nnunet.dataset_conversion.cases import SourceCase
from unetr_nnunet.dataset_conversion.problems import Problem
from unetr_nnunet.dataset_conversion.source_cases import PARTS, SourceCases
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.dataset_conversion.splits import CV5, OWN, Split, read_monai_list

BROKEN = Problem("b.nii.gz", "is broken", "mend it")


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def found(training="", validation="", test="", broken=""):
    """Cases of one letter each."""
    parts = {
        part: {name: SourceCase(SourceFile(name, 1, 1)) for name in names}
        for part, names in zip(PARTS, (training, validation, test), strict=True)
    }
    identifiers = frozenset(training + validation + test + broken)
    return SourceCases(parts, identifiers, case_problems=(BROKEN,) * len(broken), notes=("n",))


def case_id(number):
    return f"BTCV_{number:04d}"


@pytest.mark.parametrize(("split", "fold_count"), [(OWN, 1), (CV5, 0)])
def test_the_data_sets_own_parts(split, fold_count):
    chosen = split.select(found("cb", "a", "t", broken="x"))
    assert list(chosen.training) == ["a", "b", "c"]
    assert list(chosen.test) == ["t"]
    assert list(chosen.folds) == [{"train": ["b", "c"], "val": ["a"]}][:fold_count]
    assert (chosen.left_out, chosen.case_problems, chosen.notes) == ((), (BROKEN,), ("n",))
    assert split.select(found("ab")).folds == (), "no fold without validation cases"


def test_held_out_cases_never_train():
    for split in (Split("x", test=("b", "c")), Split("x", training=("a", "b", "d"), test=("b", "c"))):
        chosen = split.select(found("abcd", test="t"))
        assert (list(chosen.training), list(chosen.test), chosen.left_out) == (["a", "d"], ["b", "c"], ("t",))


def test_cases_that_a_split_names_and_the_source_lacks():
    split = Split("published", training=tuple("abcd"), folds=((("a", "c", "d"), ("b",)),), test=("e",))
    chosen = split.select(found("ab", test="t", broken="c"))
    assert list(chosen.training) == ["a", "b"]
    assert chosen.folds == ({"train": ["a", "c", "d"], "val": ["b"]},)
    broken, *missing = chosen.case_problems
    assert broken is BROKEN, "a case with a problem of its own is not missing as well"
    assert [(problem.file, problem.fact) for problem in missing] == [
        ("case d", "not in the source, but split published uses it for training"),
        ("case e", "not in the source, but split published uses it for testing"),
    ]


def test_monai_list_reads_the_lists_and_ignores_num_training(tmp_path):
    content = {
        "numTraining": 80,
        "training": [{"image": "a1/img0002.nii.gz"}, {"image": "img0001.nii.gz"}],
        "validation": [{"image": "BTCV_0003_0000.nii.gz"}],
        "test": ["img0061.nii.gz", {"image": "img0062.nii"}],
    }
    split = read_monai_list(write(tmp_path / "dataset_0.json", content), case_id)
    training, validation = ("BTCV_0001", "BTCV_0002"), ("BTCV_0003",)
    test = ("BTCV_0061", "BTCV_0062")
    expected = Split("dataset_0.json", training=training + validation, folds=((training, validation),), test=test)
    assert split == expected


def test_monai_list_without_validation_leaves_the_folds_to_nnunet(tmp_path):
    split = read_monai_list(write(tmp_path / "list.json", {"training": ["img0001.nii.gz"], "test": []}), case_id)
    assert split.folds == ()
    assert split.test is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "is damaged: Input should be an object"),
        ({"training": []}, "no .training. list"),
        ({"training": ["liver.nii.gz"]}, "four digits"),
        ({"training": [{"label": "label0001.nii.gz"}]}, "four digits"),
        ({"training": ["img0001.nii.gz"], "validation": ["img0001.nii.gz"]}, "BTCV_0001 more than once"),
        ({"training": ["img0001.nii.gz"], "test": ["img0001.nii.gz"]}, "BTCV_0001 more than once"),
    ],
)
def test_wrong_lists(content, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_monai_list(write(tmp_path / "list.json", content), case_id)


def test_not_json(tmp_path):
    path = tmp_path / "list.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is damaged: Invalid JSON"):
        read_monai_list(path, case_id)
