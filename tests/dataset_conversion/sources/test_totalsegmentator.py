import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from tests.dataset_conversion import conversions
from tests.dataset_conversion.conversions import conversion_of
from tests.dataset_conversion.other_trees import write_volume
from unetr_nnunet.dataset_conversion.conversion import convert
from unetr_nnunet.organs import ORGANS


def selected(tree):
    return conversions.selected("totalsegmentator", tree.folder)


@pytest.fixture
def total(copied):
    return copied("totalsegmentator")


def test_class_names_are_those_of_the_tree_in_btcvs_order(total):
    assert [organ.totalsegmentator_name for organ in ORGANS] == list(total.classes)


def test_missing_masks_are_one_line_for_each_case(total):
    for name in ("liver", "aorta", "spleen", "pancreas"):
        total.label_path("s0001", name).unlink()
    (problem,) = selected(total).case_problems
    assert problem.file == "s0001"
    expected = "segmentations/spleen.nii.gz, segmentations/liver.nii.gz, segmentations/aorta.nii.gz and 1 more"
    assert problem.fact == f"has no {expected}"


def test_masks_of_other_classes_may_be_missing(total):
    total.label_path("s0001", "rib_left_1").unlink()
    assert selected(total).case_problems == ()


def test_without_the_table_of_splits(total):
    (total.folder / "meta.csv").unlink()
    with pytest.raises(ValueError, match=r"holds no meta\.csv.*give Totalsegmentator_dataset_v201\.zip"):
        selected(total)


@pytest.mark.parametrize("row", ["s0005;61;m;A;ct;training;x", "0005;61;m;A;ct;train;x", "s0005"])
def test_a_row_that_makes_no_sense(row, total):
    with (total.folder / "meta.csv").open("a") as table:
        table.write(row + "\n")
    with pytest.raises(ValueError, match=r"meta\.csv: a row has .*train, val, test"):
        selected(total)


def test_an_empty_table(total):
    (total.folder / "meta.csv").write_text("image_id;split\n")
    with pytest.raises(ValueError, match="lists no case"):
        selected(total)


def test_a_table_that_was_saved_with_commas(total):
    table = total.folder / "meta.csv"
    table.write_text(table.read_text(encoding="utf-8-sig").replace(";", ","))
    assert sorted(selected(total).test) == total.test


def test_a_case_that_the_table_does_not_know(total):
    shutil.copytree(total.folder / "s0001", total.folder / "s0099")
    (problem,) = selected(total).case_problems
    assert str(problem).startswith("s0099: is not in meta.csv -> ")


def test_a_second_copy_of_a_case(total):
    shutil.copytree(total.folder / "s0001", total.folder / "copy" / "s0001")
    (problem,) = selected(total).case_problems
    assert "is there twice" in problem.fact


def test_the_higher_organ_has_a_voxel_that_two_masks_claim(total, tmp_path):
    both = np.zeros(total.shape_zyx, np.uint8)
    both[1, 2, 3] = 1
    for name in total.classes:
        write_volume(total.label_path("s0001", name), both if name in ("liver", "stomach") else both * 0)
    report = convert(conversion_of("totalsegmentator", total.folder, tmp_path / "raw"))
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(report.folder / "labelsTr" / "s0001.nii.gz")))
    assert np.argwhere(label).tolist() == [[1, 2, 3]]
    assert label[1, 2, 3] == 7
    assert len(report.absent_organs["s0001"]) == 11


def test_masks_that_all_lie_elsewhere_are_one_problem(total, tmp_path):
    total.write_label("s0001", total.label_voxels("s0001"), spacing=(0.8, 0.8, 2.5))
    with pytest.raises(ValueError, match=r"1 problem found(.|\n)*12 more label files of this case have problems"):
        convert(conversion_of("totalsegmentator", total.folder, tmp_path / "raw"))
