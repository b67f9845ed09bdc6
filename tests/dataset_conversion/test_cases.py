import zipfile
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from tests.dataset_conversion.conversions import only_problem_of
from unetr_nnunet.dataset_conversion.cases import Selection, SourceCase, check_case
from unetr_nnunet.dataset_conversion.label_layers import BTCV_VALUES, LabelLayer
from unetr_nnunet.dataset_conversion.problems import Problem, ProblemsFoundError
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.organs import ORGAN_NAMES

AFFINE = np.diag([0.8, 0.7, 3, 1])
DRAWN = {organ: name for organ, name in ORGAN_NAMES.items() if organ not in (10, 12, 13)}


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
    checked = check_case(SourceCase(ct(file), (layer,)), drawn=DRAWN)
    assert checked.problems == ()
    assert checked.image is not None
    expected = {name for organ, name in ORGAN_NAMES.items() if organ not in (6, 8, 10, 12, 13)}
    assert set(checked.absent) == expected


def test_files_that_a_volume_cannot_be_made_from_are_named_once(file):
    def made():
        raise ProblemsFoundError(
            [Problem("b.csv", "is empty", "restore it"), Problem("c.csv", "is empty", "restore it")]
        )

    image, label = (SourceFile(name, 1, 1, made=made) for name in ("ct.csv", "folder"))
    checked = check_case(SourceCase(image, (LabelLayer(label, BTCV_VALUES),)))
    assert [problem.file for problem in checked.problems] == ["b.csv", "c.csv"]
    assert checked.image is None


def test_a_case_without_labels_lacks_nothing(file):
    checked = check_case(SourceCase(ct(file)))
    assert (checked.problems, checked.absent) == ((), ())


def test_values_that_are_no_hounsfield_units_are_told_apart_from_damage(file):
    checked = check_case(SourceCase(ct(file, low=0)))
    assert checked.problems == ()
    assert len(checked.range_problems) == 1
    assert checked.image is not None


def test_problems_of_several_label_files_are_one(file):
    layers = [LabelLayer(file(f"{name}.nii.gz", organs(5)), {0: 0, 1: 1}) for name in ("a", "b", "c")]
    (problem,) = check_case(SourceCase(ct(file), tuple(layers))).problems
    assert problem.file == "a.nii.gz"
    assert problem.fact == "label values from 0 to 5, allowed are 0..1 (2 more label files of this case have problems)"


def test_a_damaged_image_and_a_wrong_label_are_both_reported(file, tmp_path):
    image = ct(file)
    (tmp_path / image.name).write_bytes(b"")
    layer = LabelLayer(file("label.nii.gz", organs(14)), BTCV_VALUES)
    checked = check_case(SourceCase(image, (layer,)))
    assert {problem.file for problem in checked.problems} == {"ct.nii.gz", "label.nii.gz"}
    assert checked.image is None


def test_without_leaves_the_cases_out_of_everything():
    case = SourceCase(SourceFile("x", 1, 1))
    folds = ({"train": ["a", "b"], "val": ["c"]},)
    selection = Selection("own", {"a": case, "b": case, "c": case}, {"t": case}, folds, notes=("n",))
    less = selection.without({"b", "t"})
    assert (list(less.training), less.test) == (["a", "c"], {})
    assert less.folds == ({"train": ["a"], "val": ["c"]},)
    assert less.notes == ("n",)
    assert selection.without({"c"}).folds == (), "a fold without validation cases is none"


def test_damaged_label(btcv_tree, conversion):
    btcv_tree.label_path(2).write_bytes(btcv_tree.label_path(2).read_bytes()[:-9])
    assert only_problem_of(conversion).file == "Training/label/label0002.nii.gz"


def test_damaged_zip_member(btcv_tree, conversion):
    archive = btcv_tree.zip()
    with zipfile.ZipFile(archive) as opened:
        position = opened.getinfo("RawData/Training/img/img0002.nii.gz").header_offset + 500
    data = bytearray(archive.read_bytes())
    data[position : position + 40] = bytes(40)
    archive.write_bytes(data)
    assert only_problem_of(replace(conversion, source=archive)).file.endswith("img0002.nii.gz")


def test_wrong_shape(btcv_tree, conversion):
    btcv_tree.write(btcv_tree.label_path(2), btcv_tree.label_voxels(2)[:3])
    problem = only_problem_of(conversion)
    assert "(18, 16, 3)" in problem.fact
    assert "(18, 16, 4)" in problem.fact


@pytest.mark.parametrize(
    ("geometry", "fact"),
    [
        ({"origin": (-50.0, 43.0, 10.0)}, "corners up to 3 mm apart"),
        ({"spacing": (0.8, 0.8, 2.5)}, "spacing (0.8, 0.8, 2.5) against"),
        ({"direction": (1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)}, "direction"),
    ],
)
def test_label_in_another_place(geometry, fact, btcv_tree, conversion):
    btcv_tree.write(btcv_tree.label_path(2), btcv_tree.label_voxels(2), **geometry)
    assert fact in only_problem_of(conversion).fact


@pytest.mark.parametrize(("value", "dtype"), [(14, np.uint8), (-1, np.int16), (300, np.int16), (np.nan, np.float32)])
def test_label_values_out_of_range(value, dtype, btcv_tree, conversion):
    voxels = btcv_tree.label_voxels(2).astype(dtype)
    voxels[0, 5, 5] = value
    btcv_tree.write(btcv_tree.label_path(2), voxels)
    problem = only_problem_of(conversion)
    assert str(value) in problem.fact
    assert "0..13" in problem.fact


def test_float_label_with_fractions(btcv_tree, conversion):
    voxels = btcv_tree.label_voxels(2).astype(np.float32)
    voxels[0, 5, 5] = 6.5
    btcv_tree.write(btcv_tree.label_path(2), voxels)
    assert "fractions" in only_problem_of(conversion).fact


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda hu: (hu + 1024).astype(np.uint16), id="unsigned"),
        pytest.param(lambda hu: (hu / 1000).astype(np.float32), id="normalised"),
        pytest.param(lambda hu: hu * 0 - 1000, id="constant"),
        pytest.param(lambda hu: np.where(hu == 900, np.nan, hu).astype(np.float32), id="nan"),
    ],
)
def test_values_that_are_no_hounsfield_units(change, btcv_tree, conversion):
    btcv_tree.write(btcv_tree.image_path(2), change(btcv_tree.image_voxels(2)))
    assert only_problem_of(conversion).file == "Training/img/img0002.nii.gz"


def test_sheared_image(btcv_tree, conversion):
    affine = nibabel.load(btcv_tree.image_path(61)).affine.copy()
    affine[1, 2] += 0.3
    sheared = nibabel.Nifti1Image(btcv_tree.image_voxels(61).T, None)
    sheared.set_sform(affine, 1)
    sheared.header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
    nibabel.save(sheared, btcv_tree.image_path(61))
    assert "right angles" in only_problem_of(conversion).fact


def test_voxel_size_that_contradicts_the_affine(btcv_tree, conversion, nifti_bytes):
    pixdim_3 = 76 + 3 * 4
    nifti_bytes(btcv_tree.image_path(61), pixdim_3, np.float32(5.0).tobytes())
    assert "voxel size is wrong" in only_problem_of(conversion).fact


def test_four_axes(btcv_tree, conversion):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)), btcv_tree.image_path(61))
    assert "(4, 4, 4, 2)" in only_problem_of(conversion).fact


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_truncated_gzip(kept, btcv_tree, conversion):
    data = btcv_tree.image_path(2).read_bytes()
    btcv_tree.image_path(2).write_bytes(data[: int(len(data) * kept)])
    assert only_problem_of(conversion).file == "Training/img/img0002.nii.gz"
