"""Damaged downloads of every data set besides BTCV: one clear line each, and nothing written."""

import json
from dataclasses import replace

import pytest
import SimpleITK as sitk

from tests.dataset_conversion.other_trees import TREES, write_volume
from unetr_nnunet.dataset_conversion.conversion import Conversion
from unetr_nnunet.dataset_conversion.other_data_sets import convert
from unetr_nnunet.dataset_conversion.problems import ProblemsFoundError


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "raw"


def settings(tree, raw, **changes):
    defaults = {"source": tree.folder, "dataset_id": 51, "name": "Other", "link": "copy"}
    return Conversion(raw_root=raw, **(defaults | changes))


def only_problem(tree, raw, **changes):
    """Convert, expect a refusal with one line that names a file and a remedy, and check that nothing was written."""
    with pytest.raises(ProblemsFoundError) as caught:
        convert(settings(tree, raw, **changes), tree.command, "own")
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
    assert "origin is 3 mm off" in problem.fact


def test_label_of_another_shape(tree, raw):
    tree.write_label(tree.training[0], tree.label_voxels(tree.training[0])[:1])
    assert "shape" in only_problem(tree, raw).fact


def test_half_an_archive(tree, raw):
    archive = tree.zip()
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"not a complete zip archive.*download it again"):
        convert(settings(tree, raw, source=archive), tree.command, "own")
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
    report = convert(settings(tree, raw, skip_bad_cases=True), tree.command, "own")
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
        convert(settings(tree, raw, source=tree.root / "empty"), tree.command, "own")


def test_another_data_set_is_refused(written_tree, raw):
    for command in set(TREES) - {written_tree.command}:
        with pytest.raises(ValueError, match=r"holds no .* case .*: give "):
            convert(settings(written_tree, raw), command, "own")
    assert not raw.exists()


def test_one_odd_range_of_values_is_reported_and_most_are_refused(tree, raw):
    for number, case in enumerate(tree.cases):
        write_volume(tree.image_path(case), tree.image_voxels(case).clip(0))
        if number == 0:
            report = convert(settings(tree, raw, dry_run=True), tree.command, "own")
            assert [note for note in report.notes if "no Hounsfield units" in note]
    with pytest.raises(ProblemsFoundError, match="no Hounsfield units"):
        convert(settings(tree, raw), tree.command, "own")


def test_converting_again_beside_the_source_does_not_read_the_output(tree):
    inside = settings(tree, tree.root / "nnUNet_raw", source=tree.root)
    first = convert(inside, tree.command, "own")
    assert convert(replace(inside, overwrite=True), tree.command, "own").training == first.training
