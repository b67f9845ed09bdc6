import json
import subprocess
import sys
import zipfile
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from unetr_nnunet.dataset_conversion.btcv import BtcvConversion, convert
from unetr_nnunet.dataset_conversion.btcv_splits import SPLITS
from unetr_nnunet.dataset_conversion.problems import ProblemsFoundError
from unetr_nnunet.dataset_conversion.splits import read_monai_list

# written out from the issue and the papers, not taken from the code under test
TRANSUNET_TEST = [1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38]


@pytest.fixture
def conversion(btcv_tree, tmp_path):
    return BtcvConversion(btcv_tree.raw, tmp_path / "raw", SPLITS["cv5"])


def names(folder):
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def problems_of(conversion):
    """Convert, expect a refusal, and check that it left nothing behind."""
    with pytest.raises(ProblemsFoundError) as caught:
        convert(conversion)
    assert not conversion.raw_root.exists()
    assert all(problem.file and problem.fact and problem.remedy for problem in caught.value.problems)
    assert all(str(problem) in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


def only_problem_of(conversion):
    problems = problems_of(conversion)
    assert len(problems) == 1, problems
    return problems[0]


def test_nnunet_accepts_the_data_set(conversion):
    report = convert(conversion)
    code = (  # forked instead of spawned, because a spawned worker would import torch once more
        "import multiprocessing\n"
        "forking = multiprocessing.get_context('fork')\n"
        "multiprocessing.get_context = lambda method: forking\n"
        "from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity as verify\n"
        f"verify({str(report.folder)!r}, 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "verify_dataset_integrity Done" in done.stdout
    assert "mismatch" not in done.stdout.lower()


def test_layout_and_dataset_json(conversion):
    folder = convert(conversion).folder
    assert folder.name == "Dataset017_BTCV"
    assert names(folder / "imagesTr") == [f"BTCV_{n:04d}_0000.nii.gz" for n in (1, 2, 21)]
    assert names(folder / "labelsTr") == [f"BTCV_{n:04d}.nii.gz" for n in (1, 2, 21)]
    assert names(folder / "imagesTs") == ["BTCV_0061_0000.nii.gz"]
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "CT"}
    assert dataset["numTraining"] == 3
    assert dataset["labels"]["background"] == 0
    assert dataset["labels"]["pancreas"] == 11
    assert sorted(dataset["labels"].values()) == list(range(14))
    assert not (folder / "splits_final.json").exists()


@pytest.mark.parametrize("form", ["zip", "nested_zip", "parent", "RawData", "nested_folder", "Training"])
def test_every_form_of_the_source_gives_the_same_bytes(form, btcv_tree, conversion):
    if form in ("zip", "nested_zip"):
        source = btcv_tree.zip(prefix="RawData/" if form == "nested_zip" else "")
    elif form == "nested_folder":
        btcv_tree.raw.rename(btcv_tree.root / "x")
        btcv_tree.raw.mkdir()
        source = (btcv_tree.root / "x").rename(btcv_tree.raw / "RawData")
        btcv_tree.raw = source
        source = source.parent
    else:
        source = {"parent": btcv_tree.root, "RawData": btcv_tree.raw, "Training": btcv_tree.raw / "Training"}[form]
    report = convert(replace(conversion, source=source))
    for number in (1, 2, 21):
        image = report.folder / "imagesTr" / f"BTCV_{number:04d}_0000.nii.gz"
        label = report.folder / "labelsTr" / f"BTCV_{number:04d}.nii.gz"
        assert image.read_bytes() == btcv_tree.image_path(number).read_bytes()
        assert label.read_bytes() == btcv_tree.label_path(number).read_bytes()
    assert names(report.folder / "imagesTs") == ([] if form == "Training" else ["BTCV_0061_0000.nii.gz"])


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


def test_labels_of_test_images_are_taken_where_they_exist(btcv_tree, conversion):
    btcv_tree.write(btcv_tree.label_path(61), btcv_tree.label_voxels(61))
    report = convert(conversion)
    assert report.test_label_count == 1
    assert names(report.folder / "labelsTs") == ["BTCV_0061.nii.gz"]


def test_absent_organs_are_reported_not_refused(btcv_tree, conversion):
    voxels = btcv_tree.label_voxels(2)
    voxels[voxels == 4] = 6
    btcv_tree.write(btcv_tree.label_path(2), voxels)
    report = convert(conversion)
    assert report.absent_organs == {"BTCV_0002": ["gallbladder"]}
    assert json.loads((report.folder / "conversion.json").read_text())["absent_organs"] == report.absent_organs


# splits


def test_split_24_6(empty_tree, tmp_path):
    empty_tree.add_all_training().add(61)
    report = convert(BtcvConversion(empty_tree.raw, tmp_path / "raw", SPLITS["unetr-24-6"]))
    splits = json.loads((report.folder / "splits_final.json").read_text())
    training = [f"BTCV_{n:04d}" for n in [*range(1, 11), *range(21, 35)]]
    assert splits == [{"train": training, "val": [f"BTCV_{n:04d}" for n in range(35, 41)]}]
    assert len(training) == 24
    assert len(names(report.folder / "imagesTr")) == 30


def test_split_18_12_keeps_the_held_out_cases_out_of_training(empty_tree, tmp_path):
    empty_tree.add_all_training().add(61)
    report = convert(BtcvConversion(empty_tree.raw, tmp_path / "raw", SPLITS["transunet-18-12"]))
    held_out = [f"BTCV_{n:04d}" for n in TRANSUNET_TEST]
    assert names(report.folder / "labelsTs") == [f"{case}.nii.gz" for case in held_out]
    assert names(report.folder / "imagesTs") == [f"{case}_0000.nii.gz" for case in held_out]
    training = {name[:9] for name in names(report.folder / "imagesTr")}
    assert len(training) == 18
    assert training.isdisjoint(held_out)
    assert {name[:9] for name in names(report.folder / "labelsTr")} == training
    assert report.left_out == ["BTCV_0061"]
    assert json.loads((report.folder / "dataset.json").read_text())["numTraining"] == 18


def test_fixed_split_names_every_missing_case(conversion):
    problems = problems_of(replace(conversion, split=SPLITS["unetr-24-6"]))
    assert len(problems) == 27
    assert {problem.file for problem in problems} >= {"case 0003", "case 0040"}


def test_a_case_is_not_reported_as_damaged_and_as_missing(empty_tree, tmp_path):
    empty_tree.add_all_training()
    empty_tree.label_path(5).unlink()
    empty_tree.label_path(6).unlink()
    empty_tree.image_path(6).unlink()
    problems = problems_of(BtcvConversion(empty_tree.raw, tmp_path / "raw", SPLITS["unetr-24-6"]))
    assert [problem.file for problem in problems] == ["Training/img/img0005.nii.gz", "case 0006"]


def test_a_download_without_labelled_cases(empty_tree, tmp_path):
    empty_tree.add(61)
    with pytest.raises(ValueError, match="no labelled training case"):
        convert(BtcvConversion(empty_tree.raw, tmp_path / "raw", SPLITS["cv5"]))
    assert not (tmp_path / "raw").exists()


def test_damaged_label(btcv_tree, conversion):
    btcv_tree.label_path(2).write_bytes(btcv_tree.label_path(2).read_bytes()[:-9])
    assert only_problem_of(conversion).file == "Training/label/label0002.nii.gz"


def test_monai_list(btcv_tree, conversion, tmp_path):
    path = tmp_path / "dataset_0.json"
    content = {
        "numTraining": 80,
        "training": [
            {"image": f"imagesTr/img{n:04d}.nii.gz", "label": f"labelsTr/label{n:04d}.nii.gz"} for n in (1, 2)
        ],
        "validation": [{"image": "imagesTr/img0021.nii.gz", "label": "labelsTr/label0021.nii.gz"}],
        "test": ["imagesTs/img0061.nii.gz"],
    }
    path.write_text(json.dumps(content))
    report = convert(replace(conversion, split=read_monai_list(path)))
    splits = json.loads((report.folder / "splits_final.json").read_text())
    assert splits == [{"train": ["BTCV_0001", "BTCV_0002"], "val": ["BTCV_0021"]}]
    assert report.test == ["BTCV_0061"]
    assert json.loads((report.folder / "dataset.json").read_text())["numTraining"] == 3


# labels that are rewritten


def test_float_label_with_whole_numbers_becomes_uint8(btcv_tree, conversion):
    btcv_tree.write(btcv_tree.label_path(2), btcv_tree.label_voxels(2).astype(np.float64))
    report = convert(conversion)
    assert list(report.rewritten) == ["BTCV_0002"]
    assert "float64" in report.rewritten["BTCV_0002"][0]
    label = sitk.ReadImage(str(report.folder / "labelsTr" / "BTCV_0002.nii.gz"))
    assert label.GetPixelID() == sitk.sitkUInt8
    assert np.array_equal(sitk.GetArrayFromImage(label), btcv_tree.label_voxels(2))
    image = sitk.ReadImage(str(btcv_tree.image_path(2)))
    assert (label.GetOrigin(), label.GetSpacing(), label.GetDirection()) == (
        image.GetOrigin(),
        image.GetSpacing(),
        image.GetDirection(),
    )


def test_scaled_integer_label_is_rewritten(btcv_tree, conversion):
    halves = nibabel.Nifti1Image(np.full((18, 16, 4), 4, np.int16), nibabel.load(btcv_tree.image_path(2)).affine)
    halves.header.set_slope_inter(0.5, 1)
    nibabel.save(halves, btcv_tree.label_path(2))
    nibabel_reads = np.unique(nibabel.load(btcv_tree.label_path(2)).get_fdata())
    report = convert(conversion)
    written = nibabel.load(report.folder / "labelsTr" / "BTCV_0002.nii.gz")
    assert written.get_data_dtype() == np.uint8
    assert np.unique(written.dataobj).tolist() == nibabel_reads.tolist()


def test_small_origin_difference_takes_the_images_geometry(btcv_tree, conversion):
    btcv_tree.write(btcv_tree.label_path(2), btcv_tree.label_voxels(2), origin=(-50.0, 40.05, 10.0))
    report = convert(conversion)
    assert "0.05 mm" in report.rewritten["BTCV_0002"][0]
    label = nibabel.load(report.folder / "labelsTr" / "BTCV_0002.nii.gz")
    image = nibabel.load(btcv_tree.image_path(2))
    assert np.array_equal(label.affine, image.affine)
    assert np.array_equal(np.asarray(label.dataobj).T, btcv_tree.label_voxels(2))


# refused input


def test_truncated_zip(btcv_tree, conversion):
    archive = btcv_tree.zip()
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"not a complete zip archive.*download it again"):
        convert(replace(conversion, source=archive))
    assert not conversion.raw_root.exists()


def test_damaged_zip_member(btcv_tree, conversion):
    archive = btcv_tree.zip()
    with zipfile.ZipFile(archive) as opened:
        position = opened.getinfo("RawData/Training/img/img0002.nii.gz").header_offset + 500
    data = bytearray(archive.read_bytes())
    data[position : position + 40] = bytes(40)
    archive.write_bytes(data)
    assert only_problem_of(replace(conversion, source=archive)).file.endswith("img0002.nii.gz")


def test_missing_label(btcv_tree, conversion):
    btcv_tree.label_path(2).unlink()
    problem = only_problem_of(conversion)
    assert (problem.file, "label0002" in problem.fact) == ("Training/img/img0002.nii.gz", True)


def test_missing_image(btcv_tree, conversion):
    btcv_tree.image_path(2).unlink()
    assert "img0002" in only_problem_of(conversion).fact


def test_extra_image(btcv_tree, conversion):
    btcv_tree.write(btcv_tree.raw / "Training/img/img0099.nii.gz", btcv_tree.image_voxels(99))
    assert "extra" in only_problem_of(conversion).fact


def test_second_file_of_one_case(btcv_tree, conversion):
    other = btcv_tree.root / "Copy" / "Training" / "img" / "img0001.nii.gz"
    btcv_tree.write(other, btcv_tree.image_voxels(1))
    assert "second file" in only_problem_of(replace(conversion, source=btcv_tree.root)).fact


def test_oddly_named_and_uncompressed_images(btcv_tree, conversion):
    btcv_tree.write(btcv_tree.raw / "Training/img/img0001 (1).nii.gz", btcv_tree.image_voxels(1))
    btcv_tree.image_path(61).unlink()
    btcv_tree.write(btcv_tree.raw / "Testing/img/img0061.nii", btcv_tree.image_voxels(61))
    facts = [problem.fact for problem in problems_of(conversion)]
    assert len(facts) == 2
    assert any("not named like" in fact for fact in facts)
    assert any("not compressed" in fact for fact in facts)


def test_wrong_shape(btcv_tree, conversion):
    btcv_tree.write(btcv_tree.label_path(2), btcv_tree.label_voxels(2)[:3])
    problem = only_problem_of(conversion)
    assert "(18, 16, 3)" in problem.fact
    assert "(18, 16, 4)" in problem.fact


@pytest.mark.parametrize(
    ("geometry", "fact"),
    [
        ({"origin": (-50.0, 43.0, 10.0)}, "origin is 3 mm"),
        ({"spacing": (0.8, 0.8, 2.5)}, "spacing 0.8 x 0.8 x 2.5 mm"),
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
    assert "contradicts" in only_problem_of(conversion).fact


def test_four_axes(btcv_tree, conversion):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)), btcv_tree.image_path(61))
    assert "(4, 4, 4, 2)" in only_problem_of(conversion).fact


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_truncated_gzip(kept, btcv_tree, conversion):
    data = btcv_tree.image_path(2).read_bytes()
    btcv_tree.image_path(2).write_bytes(data[: int(len(data) * kept)])
    assert only_problem_of(conversion).file == "Training/img/img0002.nii.gz"


def test_all_problems_come_together(btcv_tree, conversion):
    btcv_tree.label_path(1).unlink()
    btcv_tree.write(btcv_tree.label_path(2), btcv_tree.label_voxels(2)[:3])
    btcv_tree.write(btcv_tree.image_path(61), btcv_tree.image_voxels(61) * 0)
    assert len(problems_of(conversion)) == 3


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("averaged-training-images/DET0000101_avg.nii.gz", "cardiac"),
        ("Training/img/DET0000101_avg.nii.gz", "cardiac"),
        ("RegData/Training-Training/img/0001/img0001-0002.nii.gz", "RegData"),
    ],
)
def test_other_data_sets_are_refused_by_name(file, reason, as_zip, empty_tree, tmp_path):
    empty_tree.write(empty_tree.raw / file, empty_tree.image_voxels(1))
    source = empty_tree.zip() if as_zip else empty_tree.raw
    with pytest.raises(ValueError, match=rf"{reason}.*give RawData.zip.*RawData/Training/img"):
        convert(BtcvConversion(source, tmp_path / "raw", SPLITS["cv5"]))
    assert not (tmp_path / "raw").exists()


def test_the_folder_of_another_data_set_is_refused_by_its_own_name(empty_tree, tmp_path):
    source = tmp_path / "RegData"
    empty_tree.write(source / "0001" / "img0001.nii.gz", empty_tree.image_voxels(1))
    with pytest.raises(ValueError, match="RegData"):
        convert(BtcvConversion(source, tmp_path / "raw", SPLITS["cv5"]))


def test_a_folder_without_btcv(tmp_path):
    (tmp_path / "some").mkdir()
    with pytest.raises(ValueError, match="holds no BTCV case"):
        convert(BtcvConversion(tmp_path / "some", tmp_path / "raw", SPLITS["cv5"]))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        convert(BtcvConversion(tmp_path / "none", tmp_path / "raw", SPLITS["cv5"]))


@pytest.mark.parametrize("wrong", [{"dataset_id": 0}, {"dataset_id": 1000}, {"name": "a__b"}, {"workers": 0}])
def test_wrong_settings(wrong, conversion):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        replace(conversion, **wrong)


# what is already there


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
