import shutil

import pytest

from tests.dataset_conversion import conversions


def selected(source):
    return conversions.selected("flare", source)


@pytest.fixture
def flare(copied):
    return copied("flare")


def test_unlabelled_cases_and_testing_are_not_used(flare):
    image = flare.image_path("FLARETs_0001")
    for name in ("Testing/FLARETs_0001_0000.nii.gz", "Training/FLARE22_UnlabeledCase1-1000/Case_00001_0000.nii.gz"):
        (flare.folder / name).parent.mkdir(parents=True)
        shutil.copy(image, flare.folder / name)
    selection = selected(flare.folder)
    assert selection.case_problems == ()
    assert list(selection.test) == ["FLARETs_0001"]
    assert selection.test["FLARETs_0001"].image.name == "Tuning/images/FLARETs_0001_0000.nii.gz"
    assert selection.notes == ("1 unlabelled cases (Case_*.nii.gz) are not used",)


def test_tuning_cases_without_labels_and_outside_of_a_folder_of_images(flare):
    (flare.folder / "Validation").mkdir()
    flare.image_path("FLARETs_0001").rename(flare.folder / "Validation" / "FLARETs_0001_0000.nii.gz")
    flare.label_path("FLARETs_0001").unlink()
    assert selected(flare.folder).test["FLARETs_0001"].labels == ()


def test_labels_that_keep_the_channel_in_their_names(flare):
    for case in flare.training:
        path = flare.label_path(case)
        path.rename(path.with_name(f"{case}_0000.nii.gz"))
    selection = selected(flare.folder)
    assert selection.case_problems == ()
    assert len(selection.training) == 50


def test_the_labelled_folder_alone(flare):
    selection = selected(flare.folder / "Training" / "FLARE22_LabeledCase50")
    assert (len(selection.training), selection.test, selection.folds) == (50, {}, ())


def test_a_second_copy_of_a_case(flare):
    shutil.copytree(flare.folder / "Training", flare.folder / "Again")
    problems = selected(flare.folder).case_problems
    assert len(problems) == 50
    assert "is a second image of FLARE22_Tr_0001 besides Again/" in problems[0].fact
