import pytest

from tests.dataset_conversion import conversions
from unetr_nnunet.dataset_conversion.sources.amos import LABELS


def selected(tree):
    return conversions.selected("amos", tree.folder)


@pytest.fixture
def amos(copied):
    return copied("amos")


def test_labels_are_those_of_the_download(amos):
    assert ["background", *LABELS] == amos.names.split(",")


def test_mr_cases_are_left_out_and_named(amos):
    selection = selected(amos.add_mr())
    assert set(selection.cases()) == set(amos.cases)
    assert selection.problems == selection.case_problems == ()
    assert "2 cases with ids above 500 left out: they are MR (amos_0507, amos_0600)" in selection.notes


def test_case_500_is_ct(amos):
    assert "amos_0500" in selected(amos).training


def test_cases_that_dataset_json_lists_and_the_folders_lack(amos):
    for case in ("amos_0004", "amos_0002"):
        amos.remove_case(case)
    (problem,) = selected(amos).case_problems
    assert str(problem).startswith("dataset.json: lists 5 cases, of which 2 are missing (amos_0002, amos_0004) -> ")


def test_without_dataset_json_the_user_is_told_that_nothing_was_compared(amos):
    (amos.folder / "dataset.json").unlink()
    amos.remove_case("amos_0004")
    selection = selected(amos)
    assert selection.case_problems == ()
    assert "could not be checked" in selection.notes[0]


def test_another_label_table_is_refused(amos):
    amos.write_tables(labels={"0": "background", "1": "liver", "2": "right kidney", "13": "duodenum"})
    (problem,) = selected(amos).problems
    assert "1 is liver, not spleen" in problem.fact
    assert "3 is nothing, not left kidney" in problem.fact
    assert "duodenum" not in problem.fact


@pytest.mark.parametrize("content", ["{", "[]"])
def test_damaged_dataset_json(content, amos):
    (amos.folder / "dataset.json").write_text(content)
    with pytest.raises(ValueError, match=r"dataset.json is damaged .*again"):
        selected(amos)


def test_a_label_in_the_folder_of_another_part(amos):
    path = amos.label_path("amos_0008")
    path.rename(amos.folder / "labelsTr" / path.name)
    (problem,) = selected(amos).case_problems
    assert "belongs to the training cases, but its image imagesVa/amos_0008.nii.gz" in problem.fact


def test_labels_of_the_test_cases_are_taken_where_they_are(amos):
    amos.write_label("amos_0002", amos.label_voxels("amos_0002"))
    assert len(selected(amos).test["amos_0002"].labels) == 1
