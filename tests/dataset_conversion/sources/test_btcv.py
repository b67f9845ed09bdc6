import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.dataset_conversion.conversions import conversion_of, names, only_problem_of, problems_of, split_of
from unetr_nnunet.dataset_conversion.conversion import convert
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.dataset_conversion.sources.btcv import TEST_NUMBERS, TRAINING_NUMBERS, case_id, find
from unetr_nnunet.dataset_conversion.splits import read_monai_list

# written out from the issue and the papers, not taken from the code under test
TRANSUNET_TEST = [1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38]
GOOD = ["RawData/Training/img/img0001.nii.gz", "RawData/Training/label/label0001.nii.gz"]


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


def test_labels_of_test_images_are_taken_where_they_exist(btcv_tree, conversion):
    btcv_tree.write(btcv_tree.label_path(61), btcv_tree.label_voxels(61))
    report = convert(conversion)
    assert report.test_label_count == 1
    assert names(report.folder / "labelsTs") == ["BTCV_0061.nii.gz"]


def test_split_24_6(empty_tree, tmp_path):
    empty_tree.add_all_training().add(61)
    report = convert(conversion_of("btcv", empty_tree.raw, tmp_path / "raw", "unetr-24-6"))
    splits = json.loads((report.folder / "splits_final.json").read_text())
    training = [f"BTCV_{n:04d}" for n in [*range(1, 11), *range(21, 35)]]
    assert splits == [{"train": training, "val": [f"BTCV_{n:04d}" for n in range(35, 41)]}]
    assert len(training) == 24
    assert len(names(report.folder / "imagesTr")) == 30


def test_split_18_12_keeps_the_held_out_cases_out_of_training(empty_tree, tmp_path):
    empty_tree.add_all_training().add(61)
    report = convert(conversion_of("btcv", empty_tree.raw, tmp_path / "raw", "transunet-18-12"))
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
    problems = problems_of(replace(conversion, split=split_of("btcv", "unetr-24-6")))
    assert len(problems) == 27
    assert {problem.file for problem in problems} >= {"case BTCV_0003", "case BTCV_0040"}


def test_a_case_is_not_reported_as_damaged_and_as_missing(empty_tree, tmp_path):
    empty_tree.add_all_training()
    empty_tree.label_path(5).unlink()
    empty_tree.label_path(6).unlink()
    empty_tree.image_path(6).unlink()
    problems = problems_of(conversion_of("btcv", empty_tree.raw, tmp_path / "raw", "unetr-24-6"))
    assert [problem.file for problem in problems] == ["Training/img/img0005.nii.gz", "case BTCV_0006"]


def test_a_download_without_labelled_cases(empty_tree, tmp_path):
    empty_tree.add(61)
    with pytest.raises(ValueError, match="no labelled training case"):
        convert(conversion_of("btcv", empty_tree.raw, tmp_path / "raw"))
    assert not (tmp_path / "raw").exists()


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
    report = convert(replace(conversion, split=read_monai_list(path, case_id)))
    splits = json.loads((report.folder / "splits_final.json").read_text())
    assert splits == [{"train": ["BTCV_0001", "BTCV_0002"], "val": ["BTCV_0021"]}]
    assert report.test == ["BTCV_0061"]
    assert json.loads((report.folder / "dataset.json").read_text())["numTraining"] == 3


# refused input


def test_missing_label(btcv_tree, conversion):
    btcv_tree.label_path(2).unlink()
    problem = only_problem_of(conversion)
    assert (problem.file, problem.fact) == ("Training/img/img0002.nii.gz", "has no label file")


def test_missing_image(btcv_tree, conversion):
    btcv_tree.image_path(2).unlink()
    problem = only_problem_of(conversion)
    assert (problem.file, problem.fact) == ("Training/label/label0002.nii.gz", "has no image")


def test_once_a_test_case_has_a_label_all_must(btcv_tree, conversion):
    btcv_tree.add(62)
    btcv_tree.write(btcv_tree.label_path(61), btcv_tree.label_voxels(61))
    assert only_problem_of(conversion).file == "Testing/img/img0062.nii.gz"


def test_extra_image(btcv_tree, conversion):
    btcv_tree.write(btcv_tree.raw / "Training/img/img0099.nii.gz", btcv_tree.image_voxels(99))
    assert "extra" in only_problem_of(conversion).fact


def test_second_file_of_one_case(btcv_tree, conversion):
    other = btcv_tree.root / "Copy" / "Training" / "img" / "img0001.nii.gz"
    btcv_tree.write(other, btcv_tree.image_voxels(1))
    assert "second image" in only_problem_of(replace(conversion, source=btcv_tree.root)).fact


def test_oddly_named_and_uncompressed_images(btcv_tree, conversion):
    btcv_tree.write(btcv_tree.raw / "Training/img/img0001 (1).nii.gz", btcv_tree.image_voxels(1))
    btcv_tree.image_path(61).unlink()
    btcv_tree.write(btcv_tree.raw / "Testing/img/img0061.nii", btcv_tree.image_voxels(61))
    facts = [problem.fact for problem in problems_of(conversion)]
    assert len(facts) == 2
    assert any("not named like" in fact for fact in facts)
    assert any("not compressed" in fact for fact in facts)


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
        convert(conversion_of("btcv", source, tmp_path / "raw"))
    assert not (tmp_path / "raw").exists()


def test_the_folder_of_another_data_set_is_refused_by_its_own_name(empty_tree, tmp_path):
    source = tmp_path / "RegData"
    empty_tree.write(source / "0001" / "img0001.nii.gz", empty_tree.image_voxels(1))
    with pytest.raises(ValueError, match="RegData"):
        convert(conversion_of("btcv", source, tmp_path / "raw"))


def test_a_folder_without_btcv(tmp_path):
    (tmp_path / "some").mkdir()
    with pytest.raises(ValueError, match="holds no BTCV case"):
        convert(conversion_of("btcv", tmp_path / "some", tmp_path / "raw"))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        convert(conversion_of("btcv", tmp_path / "none", tmp_path / "raw"))


def found(names, source="download"):
    cases = find(Path(source), [SourceFile(name, 1, 1) for name in names])
    training, test = (sorted(int(name[-4:]) for name in cases.parts[part]) for part in ("training", "test"))
    return training, test, list(cases.case_problems)


@pytest.mark.parametrize("prefix", ["", "RawData/", "Abdomen/RawData/RawData/", "Abdomen/"])
def test_any_level_of_the_download(prefix):
    names = [prefix + name for name in ("Training/img/img0001.nii.gz", "Training/label/label0001.nii.gz")]
    assert found([*names, prefix + "Testing/img/img0061.nii.gz"]) == ([1], [61], [])


@pytest.mark.parametrize(("source", "prefix"), [("RawData/Training", ""), ("unpacked", ""), ("RawData/Testing", "")])
def test_the_inner_folder_alone(source, prefix):
    if source.endswith("Testing"):
        assert found(["img/img0061.nii.gz"], source) == ([], [61], [])
    else:
        assert found(["img/img0001.nii.gz", "label/label0001.nii.gz"], source) == ([1], [], [])


def test_upper_case_folders_and_other_nifti_files_do_not_matter():
    names = [name.replace("Training", "TRAINING") for name in GOOD]
    assert found([*names, "RawData/atlas.nii.gz", "predictions/img0001.nii.gz"]) == ([1], [], [])


def test_an_unlabelled_test_case_in_training_is_an_extra_file():
    training, _, problems = found([*GOOD, "RawData/Training/img/img0061.nii.gz"])
    assert training == [1]
    assert [problem.file for problem in problems] == ["RawData/Training/img/img0061.nii.gz"]
    assert "0001-0010 and 0021-0040" in problems[0].fact


def test_a_label_among_the_images():
    _, _, problems = found([*GOOD, "RawData/Training/img/label0002.nii.gz"])
    assert "not named like" in problems[0].fact


def test_every_kind_of_problem_is_listed_with_its_file():
    names = [
        "RawData/Training/img/img0002.nii.gz",
        "RawData/Training/label/label0003.nii.gz",
        "RawData/Training/img/img0004.nii",
        "Again/Training/img/img0001.nii.gz",
    ]
    _, _, problems = found([*GOOD, *names])
    assert {problem.file for problem in problems} >= {*names[:3]}
    assert len(problems) == 4


@pytest.mark.parametrize("source", ["RegData", "RegData.zip", "averaged-training-images"])
def test_the_source_itself_is_another_data_set(source, tmp_path):
    path = tmp_path / source
    path.touch() if source.endswith(".zip") else path.mkdir()
    with pytest.raises(ValueError, match=r"give RawData\.zip"):
        find(path, [])


def test_nothing_found():
    with pytest.raises(ValueError, match=r"holds no BTCV case \(1 NIfTI files\)"):
        found(["x/y.nii.gz"])


def test_btcv_has_thirty_labelled_and_twenty_test_cases():
    assert len(TRAINING_NUMBERS) == 30
    assert [number for number in range(1, 41) if number not in TRAINING_NUMBERS] == list(range(11, 21))
    assert (TEST_NUMBERS[0], TEST_NUMBERS[-1], len(TEST_NUMBERS)) == (61, 80, 20)


def test_the_published_divisions_have_their_sizes_and_do_not_overlap():
    everything = [f"BTCV_{number:04d}" for number in TRAINING_NUMBERS]
    ((training, validation),) = split_of("btcv", "unetr-24-6").folds
    assert (len(training), len(validation)) == (24, 6)
    assert sorted((*training, *validation)) == everything
    transunet = split_of("btcv", "transunet-18-12")
    assert (len(transunet.training), len(transunet.test)) == (18, 12)
    assert sorted((*transunet.training, *transunet.test)) == everything
