from pathlib import PurePosixPath

import pytest

from unetr_nnunet.dataset_conversion.problems import Problem
from unetr_nnunet.dataset_conversion.source_cases import (
    Place,
    label_table_problems,
    missing_cases,
    pair_files,
    split_folders,
)
from unetr_nnunet.dataset_conversion.source_files import SourceFile

FOLDERS = split_folders(validation="va")
VALUES = {0: 0, 1: 6}


def place(path: PurePosixPath) -> Place | None:
    folder = FOLDERS.get(path.parts[0].lower())
    return Place(*folder, path.name.split(".")[0]) if folder else None


def pair(*names: str):
    return pair_files([SourceFile(name, 1, 1) for name in names], place, VALUES, label_expected={"training"})


def test_split_folders():
    assert FOLDERS["imagestr"] == ("training", False)
    assert FOLDERS["labelsva"] == ("validation", True)
    assert len(FOLDERS) == 6


def test_images_and_labels_meet_by_part_and_name():
    found = pair("imagesTr/a.nii.gz", "labelsTr/a.nii.gz", "imagesTs/b.nii.gz", "elsewhere/c.nii.gz")
    assert found.case_problems == ()
    assert found.parts["training"]["a"].labels[0].file.name == "labelsTr/a.nii.gz"
    assert found.parts["test"]["b"].labels == ()
    assert found.identifiers == {"a", "b"}
    assert found.counts == {"training": 1, "validation": 0, "test": 1}


@pytest.mark.parametrize(
    ("names", "fact"),
    [
        (("imagesTr/a.nii.gz",), "has no label file"),
        (("labelsTr/a.nii.gz",), "has no image"),
        (("imagesTr/a.nii", "labelsTr/a.nii.gz"), "is not compressed"),
        (("imagesTr/a.nii.gz", "imagesVa/a.nii.gz", "labelsTr/a.nii.gz"), "is a second image of a besides"),
        (("imagesTr/a.nii.gz", "labelsVa/a.nii.gz"), "belongs to the validation cases"),
    ],
)
def test_one_problem_for_a_case(names, fact):
    found = pair(*names)
    assert len(found.case_problems) == 1
    assert fact in found.case_problems[0].fact
    assert not any(found.parts.values())


def test_a_case_never_trains_and_tests():
    found = pair("imagesTr/a.nii.gz", "imagesTs/a.nii.gz", "labelsTr/a.nii.gz")
    assert "second image" in found.case_problems[0].fact


def test_a_wrong_name_is_a_problem_of_its_own():
    def placed(path):
        return Problem(str(path), "is odd", "rename it") if path.name.startswith("odd") else place(path)

    names = ("imagesTr/odd.nii.gz", "imagesTr/a.nii.gz", "labelsTr/a.nii.gz")
    found = pair_files([SourceFile(name, 1, 1) for name in names], placed, VALUES, label_expected={"training"})
    assert [problem.file for problem in found.case_problems] == ["imagesTr/odd.nii.gz"]
    assert found.identifiers == {"a"}


def test_missing_cases_are_one_problem():
    assert missing_cases(["a", "b"], {"a", "b", "c"}, "meta.csv") == ()
    (problem,) = missing_cases([f"case_{number}" for number in range(9)], {"case_0"}, "meta.csv")
    assert problem.fact == "lists 9 cases, of which 8 are missing (case_1, case_2, case_3, case_4, case_5, ...)"


@pytest.mark.parametrize(
    ("labels", "fact"),
    [
        ({"0": "background", "1": "liver", "2": "colon"}, None),
        ({"00": "background", "01": "Liver"}, None),
        ({"0": "background", "1": "liver", "2": "something else"}, None),
        ({"0": "background", "1": "liver", "2": "colon", "3": "aorta"}, "3 is aorta, not any label"),
        ({"0": "background", "1": "colon", "2": "liver"}, "1 is colon, not liver; 2 is liver, not colon"),
        ({"background": 0, "liver": 1}, "not numbers with names"),
        (["liver"], "not numbers with names"),
    ],
)
def test_label_tables(labels, fact):
    problems = label_table_problems(SourceFile("dataset.json", 1, 1), {"labels": labels}, ("liver", "colon"))
    assert [fact in problem.fact for problem in problems] == ([] if fact is None else [True])
