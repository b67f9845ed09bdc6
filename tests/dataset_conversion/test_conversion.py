"""Damaged downloads: one clear line each, and nothing written; and what already lies at the target."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from tests.dataset_conversion.conversions import conversion_of, names, problems_of
from tests.dataset_conversion.other_trees import TREES, write_volume
from unetr_nnunet.dataset_conversion.conversion import convert
from unetr_nnunet.dataset_conversion.problems import ProblemsFoundError


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "raw"


def settings(tree, raw, source=None, split=None, command=None, **changes):
    defaults = {"dataset_id": 51, "name": "Other", "link": "copy"}
    return conversion_of(command or tree.command, source or tree.folder, raw, split, **(defaults | changes))


def only_problem(tree, raw, **changes):
    """Convert, expect a refusal with one line that names a file and a remedy, and check that nothing was written."""
    with pytest.raises(ProblemsFoundError) as caught:
        convert(settings(tree, raw, **changes))
    assert not raw.exists()
    assert len(caught.value.problems) == 1, caught.value
    problem = caught.value.problems[0]
    assert all((problem.file, problem.fact, problem.remedy))
    assert "--skip-bad-cases" in str(caught.value)
    return problem


def test_missing_label(tree, raw):
    tree.label_path(tree.training[0]).unlink()
    assert tree.training[0] in only_problem(tree, raw).file


def test_missing_image(tree, raw):
    tree.image_path(tree.training[0]).unlink()
    problem = only_problem(tree, raw)
    assert tree.training[0] in problem.file
    assert "image" in problem.fact or "ct.nii.gz" in problem.fact


def test_unknown_label_value(tree, raw):
    highest = 1 if tree.command == "totalsegmentator" else max(tree.to_btcv)
    path = tree.label_path(tree.training[1])
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    voxels.flat[-1] = highest + 1
    write_volume(path, voxels)
    problem = only_problem(tree, raw)
    assert problem.file.endswith(str(path.relative_to(tree.folder)))
    assert f"to {highest + 1}, allowed are 0..{highest}" in problem.fact


@pytest.mark.parametrize("as_zip", [False, True])
def test_label_on_another_grid(as_zip, tree, raw):
    case = tree.training[1]
    tree.write_label(case, tree.label_voxels(case), origin=(-50.0, 43.0, 10.0))
    problem = only_problem(tree, raw, source=tree.zip() if as_zip else tree.folder)
    assert "corners up to 3 mm apart" in problem.fact


def test_label_of_another_shape(tree, raw):
    tree.write_label(tree.training[0], tree.label_voxels(tree.training[0])[:1])
    assert "size" in only_problem(tree, raw).fact


def test_half_an_archive(tree, raw):
    archive = tree.zip()
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"not a complete zip archive.*download it again"):
        convert(settings(tree, raw, source=archive))
    assert not raw.exists()


def test_half_a_folder_is_one_line(tree, raw):
    gone = tree.training[1:]
    for case in gone:
        tree.remove_case(case)
    problem = only_problem(tree, raw)
    assert str(len(gone)) in problem.fact or f"1 of {len(tree.training)}" in problem.fact
    assert "complete the download" in problem.remedy


def test_a_file_that_is_cut_off(tree, raw):
    path = tree.image_path(tree.training[0])
    path.write_bytes(path.read_bytes()[:-20])
    assert only_problem(tree, raw).file.endswith(str(path.relative_to(tree.folder)))


def test_bad_cases_can_be_left_out(tree, raw):
    one, other, third = tree.training[0], tree.training[1], tree.training[2]
    tree.remove_case(one)
    tree.image_path(other).write_bytes(b"")
    report = convert(settings(tree, raw, skip_bad_cases=True))
    kept = sorted(set(tree.training + tree.validation) - {one, other})
    assert report.training == kept
    assert len(report.skipped) == 2
    assert third in kept
    assert json.loads((report.folder / "dataset.json").read_text())["numTraining"] == len(kept)
    splits = report.folder / "splits_final.json"
    if splits.exists():
        fold = json.loads(splits.read_text())[0]
        assert sorted(fold["train"] + fold["val"]) == kept


def test_an_unopened_archive_in_the_folder_is_named(tree, raw):
    tree.zip()
    (tree.root / "empty").mkdir()
    archive = (tree.root / "download.zip").rename(tree.root / "empty" / "download.zip")
    with pytest.raises(ValueError, match=rf"holds no .* case \(0 NIfTI files; it holds {archive.name}"):
        convert(settings(tree, raw, source=tree.root / "empty"))


def test_another_data_set_is_refused(written_tree, raw):
    for command in set(TREES) - {written_tree.command}:
        with pytest.raises(ValueError, match=r"holds no .* case .*: give "):
            convert(settings(written_tree, raw, command=command))
    assert not raw.exists()


def test_one_odd_range_of_values_is_reported_and_most_are_refused(tree, raw):
    for number, case in enumerate(tree.cases):
        write_volume(tree.image_path(case), tree.image_voxels(case).clip(0))
        if number == 0:
            report = convert(settings(tree, raw, dry_run=True))
            assert [note for note in report.notes if "not Hounsfield units" in note]
    with pytest.raises(ProblemsFoundError, match="not Hounsfield units"):
        convert(settings(tree, raw))


def test_converting_again_beside_the_source_does_not_read_the_output(tree):
    inside = settings(tree, tree.root / "nnUNet_raw", source=tree.root)
    first = convert(inside)
    assert convert(replace(inside, overwrite=True)).training == first.training


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(("link", "shared"), [("auto", True), ("hard", True), ("copy", False)])
def test_link(link, shared, btcv_tree, conversion):
    report = convert(replace(conversion, link=link))
    target = report.folder / "imagesTr" / "BTCV_0001_0000.nii.gz"
    assert target.samefile(btcv_tree.image_path(1)) is shared
    assert report.linked is shared
    assert (report.bytes_written == 0) is shared


def test_hard_links_from_a_zip_are_refused(btcv_tree, conversion):
    with pytest.raises(ValueError, match="--link copy"):
        convert(replace(conversion, source=btcv_tree.zip(), link="hard"))
    assert not conversion.raw_root.exists()


def test_absent_organs_are_reported_not_refused(btcv_tree, conversion):
    voxels = btcv_tree.label_voxels(2)
    voxels[voxels == 4] = 6
    btcv_tree.write(btcv_tree.label_path(2), voxels)
    report = convert(conversion)
    assert report.absent_organs == {"BTCV_0002": ["gallbladder"]}
    assert json.loads((report.folder / "conversion.json").read_text())["absent_organs"] == report.absent_organs


def test_all_problems_come_together(btcv_tree, conversion):
    btcv_tree.label_path(1).unlink()
    btcv_tree.write(btcv_tree.label_path(2), btcv_tree.label_voxels(2)[:3])
    btcv_tree.write(btcv_tree.image_path(61), btcv_tree.image_voxels(61) * 0)
    assert len(problems_of(conversion)) == 3


def test_truncated_zip(btcv_tree, conversion):
    archive = btcv_tree.zip()
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"not a complete zip archive.*download it again"):
        convert(replace(conversion, source=archive))
    assert not conversion.raw_root.exists()


@pytest.mark.parametrize("wrong", [{"dataset_id": 0}, {"dataset_id": 1000}, {"name": "a__b"}, {"workers": 0}])
def test_wrong_settings(wrong, conversion):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        replace(conversion, **wrong)


def test_dry_run_writes_nothing(conversion):
    report = convert(replace(conversion, dry_run=True))
    assert len(report.training) == 3
    assert not conversion.raw_root.exists()


def test_a_finished_data_set_needs_overwrite(btcv_tree, conversion):
    folder = convert(replace(conversion, link="copy")).folder
    before = contents(folder)
    btcv_tree.write(btcv_tree.label_path(2), np.minimum(btcv_tree.label_voxels(2), 6))
    with pytest.raises(FileExistsError, match="--overwrite"):
        convert(conversion)
    assert contents(folder) == before
    (folder / "imagesTr" / "stranger_0000.nii.gz").write_bytes(b"")
    convert(replace(conversion, overwrite=True))
    assert (folder / "labelsTr" / "BTCV_0002.nii.gz").read_bytes() == btcv_tree.label_path(2).read_bytes()
    assert not (folder / "imagesTr" / "stranger_0000.nii.gz").exists()


def test_overwrite_keeps_the_old_data_set_when_checks_fail(btcv_tree, conversion):
    folder = convert(replace(conversion, link="copy")).folder
    before = contents(folder)
    btcv_tree.label_path(2).unlink()
    with pytest.raises(ProblemsFoundError):
        convert(replace(conversion, overwrite=True))
    assert contents(folder) == before


@pytest.mark.parametrize("file", ["notes.txt", "conversion.json"])
def test_a_foreign_folder_is_not_touched(file, conversion):
    conversion.folder.mkdir(parents=True)
    (conversion.folder / file).write_text("mine")
    with pytest.raises(FileExistsError, match="--overwrite"):
        convert(conversion)
    assert contents(conversion.folder) == {file: b"mine"}


@pytest.mark.parametrize("variable", [None, "nnUNet_preprocessed", "nnUNet_results"])
def test_a_number_with_two_names_is_refused(variable, conversion, tmp_path, monkeypatch):
    root = conversion.raw_root if variable is None else tmp_path / "other"
    (root / "Dataset017_Other").mkdir(parents=True)
    if variable:
        monkeypatch.setenv(variable, str(root))
    with pytest.raises(FileExistsError, match="Dataset017_Other"):
        convert(conversion)
    assert not conversion.folder.exists()


def test_a_source_inside_the_data_set_folder_is_refused(btcv_tree, conversion):
    conversion.raw_root.mkdir()
    conversion.folder.symlink_to(btcv_tree.root)
    with pytest.raises(ValueError, match="lies in the data set folder"):
        convert(replace(conversion, overwrite=True))
    assert btcv_tree.image_path(1).exists()


def test_the_output_may_lie_inside_the_source(btcv_tree, conversion):
    inside = replace(conversion, source=btcv_tree.root, raw_root=btcv_tree.root / "nnUNet_raw")
    folder = convert(inside).folder
    assert len(names(folder / "imagesTr")) == 3
    assert convert(replace(inside, overwrite=True)).training == ["BTCV_0001", "BTCV_0002", "BTCV_0021"]
