import pytest

from tests.dataset_conversion import conversions
from unetr_nnunet.dataset_conversion.sources.word import LABELS


def selected(tree):
    return conversions.selected("word", tree.folder)


@pytest.fixture
def word(copied):
    return copied("word")


def test_labels_are_those_of_the_download(word):
    assert ["background", *LABELS] == word.names.split(",")


def test_the_joined_adrenal_glands_are_mentioned(word):
    assert any("adrenal glands as one label" in note for note in selected(word).notes)


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("word_0002", "imagesTr: holds 99 of 100 cases -> complete the download"),
        ("word_0001", "imagesVal: holds 19 of 20 cases -> complete the download"),
        ("word_0150", "imagesTs: holds 29 of 30 cases -> complete the download"),
    ],
)
def test_a_part_that_is_not_complete(case, line, word):
    word.remove_case(case)
    assert [str(problem) for problem in selected(word).case_problems] == [line]


def test_a_missing_label_is_not_also_a_missing_case(word):
    word.label_path("word_0002").unlink()
    assert [problem.file for problem in selected(word).case_problems] == ["imagesTr/word_0002.nii.gz"]


def test_the_archive_without_the_test_labels(word):
    for case in word.test:
        word.label_path(case).unlink()
    selection = selected(word)
    assert selection.case_problems == ()
    assert not any(case.labels for case in selection.test.values())


def test_an_uncompressed_file(word):
    path = word.image_path("word_0002")
    path.rename(path.with_suffix(""))
    (problem,) = selected(word).case_problems
    assert str(problem).startswith("imagesTr/word_0002.nii: is not compressed -> ")
