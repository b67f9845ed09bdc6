from pathlib import Path

import pytest

from unetr_nnunet.dataset_conversion.btcv_source import find_cases, refuse_other_data_sets
from unetr_nnunet.dataset_conversion.source_files import SourceFile

GOOD = ["RawData/Training/img/img0001.nii.gz", "RawData/Training/label/label0001.nii.gz"]


def find(names, source="download"):
    training, test, problems = find_cases(Path(source), [SourceFile(name, 1, 1) for name in names])
    return sorted(training), sorted(test), problems


@pytest.mark.parametrize("prefix", ["", "RawData/", "Abdomen/RawData/RawData/", "Abdomen/"])
def test_any_level_of_the_download(prefix):
    names = [prefix + name for name in ("Training/img/img0001.nii.gz", "Training/label/label0001.nii.gz")]
    assert find([*names, prefix + "Testing/img/img0061.nii.gz"]) == ([1], [61], [])


@pytest.mark.parametrize(("source", "prefix"), [("RawData/Training", ""), ("unpacked", ""), ("RawData/Testing", "")])
def test_the_inner_folder_alone(source, prefix):
    if source.endswith("Testing"):
        assert find(["img/img0061.nii.gz"], source) == ([], [61], [])
    else:
        assert find(["img/img0001.nii.gz", "label/label0001.nii.gz"], source) == ([1], [], [])


def test_upper_case_folders_and_other_nifti_files_do_not_matter():
    names = [name.replace("Training", "TRAINING") for name in GOOD]
    assert find([*names, "RawData/atlas.nii.gz", "predictions/img0001.nii.gz"]) == ([1], [], [])


def test_an_unlabelled_test_case_in_training_is_an_extra_file():
    training, _, problems = find([*GOOD, "RawData/Training/img/img0061.nii.gz"])
    assert training == [1]
    assert [problem.file for problem in problems] == ["RawData/Training/img/img0061.nii.gz"]
    assert "0001-0010 and 0021-0040" in problems[0].fact


def test_a_label_among_the_images():
    _, _, problems = find([*GOOD, "RawData/Training/img/label0002.nii.gz"])
    assert "not named like" in problems[0].fact


def test_every_kind_of_problem_is_listed_with_its_file():
    names = [
        "RawData/Training/img/img0002.nii.gz",
        "RawData/Training/label/label0003.nii.gz",
        "RawData/Training/img/img0004.nii",
        "Again/Training/img/img0001.nii.gz",
    ]
    _, _, problems = find([*GOOD, *names])
    assert {problem.file for problem in problems} >= {*names[:3]}
    assert len(problems) == 4


@pytest.mark.parametrize("source", ["RegData", "RegData.zip", "averaged-training-images"])
def test_the_source_itself_is_another_data_set(source, tmp_path):
    path = tmp_path / source
    path.touch() if source.endswith(".zip") else path.mkdir()
    with pytest.raises(ValueError, match=r"give RawData\.zip"):
        refuse_other_data_sets(path, [])


def test_nothing_found():
    with pytest.raises(ValueError, match=r"1 NIfTI files, none in Training/img"):
        find(["x/y.nii.gz"])
