import nibabel
import numpy as np
import pytest

from unetr_nnunet.dataset_conversion.cases import Case, Selection, check_case
from unetr_nnunet.dataset_conversion.label_layers import BTCV_VALUES, LabelLayer
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.organs import ORGAN_NAMES

AFFINE = np.diag([0.8, 0.7, 3, 1])


@pytest.fixture
def file(tmp_path):
    def save(name, voxels, affine=AFFINE):
        nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / name)
        return SourceFile(name, 1, 1, path=tmp_path / name)

    return save


def ct(file, low=-1000):
    return file("ct.nii.gz", np.array([[[low, 0, 900] * 5]], np.int16))


def organs(*present):
    voxels = np.zeros((1, 1, 15), np.uint8)
    voxels.flat[: len(present)] = present
    return voxels


def test_a_good_case_and_what_it_lacks(file):
    layer = LabelLayer(file("label.nii.gz", organs(1, 2, 4)), {0: 0, 1: 6, 2: 0, 4: 8})
    checked = check_case(Case(ct(file), (layer,)), undrawn=(10, 12, 13))
    assert checked.problems == ()
    assert checked.image is not None
    expected = {name for organ, name in ORGAN_NAMES.items() if organ not in (6, 8, 10, 12, 13)}
    assert set(checked.absent) == expected


def test_a_case_without_labels_lacks_nothing(file):
    checked = check_case(Case(ct(file)))
    assert (checked.problems, checked.absent) == ((), ())


def test_values_that_are_no_hounsfield_units_are_told_apart_from_damage(file):
    checked = check_case(Case(ct(file, low=0)))
    assert checked.problems == ()
    assert len(checked.range_problems) == 1
    assert checked.image is not None


def test_problems_of_several_label_files_are_one(file):
    layers = [LabelLayer(file(f"{name}.nii.gz", organs(5)), {0: 0, 1: 1}) for name in ("a", "b", "c")]
    (problem,) = check_case(Case(ct(file), tuple(layers))).problems
    assert problem.file == "a.nii.gz"
    assert problem.fact == "label values from 0 to 5, allowed are 0..1 (2 more label files of this case have problems)"


def test_a_damaged_image_and_a_wrong_label_are_both_reported(file, tmp_path):
    image = ct(file)
    (tmp_path / image.name).write_bytes(b"")
    layer = LabelLayer(file("label.nii.gz", organs(14)), BTCV_VALUES)
    checked = check_case(Case(image, (layer,)))
    assert {problem.file for problem in checked.problems} == {"ct.nii.gz", "label.nii.gz"}
    assert checked.image is None


def test_without_leaves_the_cases_out_of_everything():
    case = Case(SourceFile("x", 1, 1))
    folds = ({"train": ["a", "b"], "val": ["c"]},)
    selection = Selection("own", {"a": case, "b": case, "c": case}, {"t": case}, folds, notes=("n",))
    less = selection.without({"b", "t"})
    assert (list(less.training), less.test) == (["a", "c"], {})
    assert less.folds == ({"train": ["a"], "val": ["c"]},)
    assert less.notes == ("n",)
    assert selection.without({"c"}).folds == (), "a fold without validation cases is none"
