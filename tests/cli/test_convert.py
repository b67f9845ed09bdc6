import json

import nibabel
import numpy as np
import pytest

from tests.dataset_conversion.openkbp_clone import write_patient
from tests.dataset_conversion.other_trees import TREES, AmosTree
from unetr_nnunet.cli.main import main
from unetr_nnunet.dataset_conversion.sources import DATA_SETS


@pytest.fixture
def source(tmp_path):
    """Five labelled cases and a test image, 6 x 5 x 4 voxels."""
    random = np.random.default_rng(0)
    for part, kind, numbers in (
        ("Training", "img", range(1, 6)),
        ("Training", "label", range(1, 6)),
        ("Testing", "img", [61]),
    ):
        folder = tmp_path / "RawData" / part / kind
        folder.mkdir(parents=True)
        for number in numbers:
            voxels = random.integers(-1000, 1000, (6, 5, 4)) if kind == "img" else random.integers(0, 13, (6, 5, 4))
            voxels.flat[:2] = (-1000, 900) if kind == "img" else (0, 1)
            image = nibabel.Nifti1Image(voxels.astype(np.int16 if kind == "img" else np.uint8), np.diag([1, 1, 3, 1]))
            nibabel.save(image, folder / f"{kind}{number:04d}.nii.gz")
    return tmp_path / "RawData"


@pytest.fixture
def raw(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    monkeypatch.delenv("nnUNet_results", raising=False)
    return tmp_path / "raw"


def test_reports_and_names_the_next_commands(source, raw, capsys):
    assert main(["convert", "btcv", str(source)]) == 0
    printed = capsys.readouterr().out
    assert "5 training cases, 1 test cases" in printed
    assert "BTCV_0001: no right_adrenal_gland" not in printed.split("next:")[1]
    assert "no left_adrenal_gland" in printed
    lines = [line.strip() for line in printed.split("next:")[1].splitlines() if line]
    assert lines[0] == 'eval "$(unetr_nnunet env)"'
    assert lines[1] == "nnUNetv2_plan_and_preprocess -d 17 --verify_dataset_integrity -c 3d_fullres"
    assert lines[2] == "nnUNetv2_train 17 3d_fullres 0 -tr nnUNetTrainerUNETR --npz"
    assert lines[6] == "nnUNetv2_train 17 3d_fullres 4 -tr nnUNetTrainerUNETR --npz"
    assert lines[7].startswith("nnUNetv2_predict -d 17 -c 3d_fullres -tr nnUNetTrainerUNETR -f 0 1 2 3 4 -i ")
    assert str(raw / "Dataset017_BTCV" / "imagesTs") in lines[7]
    assert len(lines) == 8


def test_dry_run(source, raw, capsys):
    assert main(["convert", "btcv", str(source), "--dry-run"]) == 0
    assert "would write" in capsys.readouterr().out
    assert not raw.exists()


def test_problems_give_exit_code_1_and_one_line_each(source, raw, capsys):
    (source / "Training/label/label0002.nii.gz").unlink()
    (source / "Training/img/img0004.nii.gz").write_bytes(b"")
    assert main(["convert", "btcv", str(source)]) == 1
    error = capsys.readouterr().err
    assert "2 problems found, nothing was written" in error
    assert "Training/img/img0002.nii.gz: has no label file -> " in error
    assert "Training/img/img0004.nii.gz: " in error
    assert not raw.exists()


def test_without_an_output_folder(source, capsys, monkeypatch):
    monkeypatch.delenv("nnUNet_raw", raising=False)
    assert main(["convert", "btcv", str(source)]) == 1
    assert "export nnUNet_raw=" in capsys.readouterr().err


def test_output_id_and_name(source, raw, tmp_path, capsys):
    output = tmp_path / "elsewhere"
    words = ["convert", "btcv", str(source), "--output", str(output), "--dataset-id", "5", "--name", "Mine"]
    assert main(words) == 0
    assert (output / "Dataset005_Mine" / "imagesTr" / "BTCV_0001_0000.nii.gz").exists()
    assert not raw.exists()
    assert f"export nnUNet_raw={output}" in capsys.readouterr().out


def test_json_list_with_validation_names_one_fold(source, raw, tmp_path, capsys):
    path = tmp_path / "dataset_0.json"
    path.write_text(json.dumps({"training": ["img0001.nii.gz"], "validation": ["img0002.nii.gz"]}))
    assert main(["convert", "btcv", str(source), "--json-list", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("nnUNetv2_train 17") == 1
    assert "left out, not used by this split: BTCV_0003, BTCV_0004, BTCV_0005" in printed


def test_json_list_with_held_out_cases_trains_on_all_and_evaluates(source, raw, tmp_path, capsys):
    path = tmp_path / "dataset_0.json"
    path.write_text(json.dumps({"training": ["img0001.nii.gz"], "test": ["img0002.nii.gz"]}))
    assert main(["convert", "btcv", str(source), "--json-list", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "nnUNetv2_train 17 3d_fullres all -tr" in printed
    assert f"unetr_nnunet evaluate predictions {raw / 'Dataset017_BTCV' / 'labelsTs'}" in printed


def test_an_old_preprocessed_folder_is_pointed_out(source, raw, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "pre"))
    (tmp_path / "pre" / "Dataset017_BTCV").mkdir(parents=True)
    assert main(["convert", "btcv", str(source)]) == 0
    assert f"rm -r {tmp_path / 'pre' / 'Dataset017_BTCV'}" in capsys.readouterr().out


def test_wrong_usage_exits_with_2(capsys):
    for words in (["convert"], ["convert", "btcv"], ["convert", "btcv", "x", "--split", "cv5", "--json-list", "y"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2


@pytest.mark.parametrize("data_set", DATA_SETS.values(), ids=DATA_SETS)
def test_every_data_set_has_a_command_with_its_help(data_set, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["convert", data_set.command, "--help"])
    assert caught.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"example: unetr_nnunet convert {data_set.command} {data_set.example} --dry-run" in printed
    assert f"Dataset{data_set.dataset_id:03d}_{data_set.name}" in printed
    assert all(split.name in printed for split in data_set.splits)
    assert ("--json-list" in printed) == (data_set.command == "btcv")
    assert ("--skip-bad-cases" in printed) == (data_set.command != "btcv")


@pytest.mark.parametrize("command", TREES)
def test_help_says_which_organs_are_absent(command):
    for organ in TREES[command].absent:
        assert organ.replace("_", " ").removeprefix("right ").removeprefix("left ") in DATA_SETS[command].summary


@pytest.fixture
def amos(tmp_path):
    return AmosTree(tmp_path / "download").write()


def test_amos_with_its_own_split(amos, raw, capsys):
    assert main(["convert", "amos", str(amos.add_mr().folder)]) == 0
    printed = capsys.readouterr().out
    assert f"wrote {raw / 'Dataset051_AMOS22'}" in printed
    assert "split own: 4 training cases, 1 test cases (0 with labels), 1 fixed fold in splits_final.json" in printed
    assert "not annotated here, so a model trained on it will not predict them: portal_and" in printed
    assert "they are MR (amos_0507, amos_0600)" in printed
    assert printed.count("nnUNetv2_train 51 3d_fullres 0 ") == printed.count("nnUNetv2_train") == 1
    assert "unetr_nnunet evaluate" not in printed


def test_amos_with_five_folds_and_a_bad_case(amos, raw, capsys):
    amos.label_path("amos_0004").unlink()
    words = ["convert", "amos", str(amos.folder), "--split", "cv5"]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert "1 problem found, nothing was written:" in error
    assert "imagesTr/amos_0004.nii.gz: has no label file -> " in error
    assert error.endswith("--skip-bad-cases converts the other cases\n")
    assert not raw.exists()
    assert main([*words, "--skip-bad-cases"]) == 0
    printed = capsys.readouterr().out
    assert "skipped: imagesTr/amos_0004.nii.gz: has no label file" in printed
    assert "split cv5: 3 training cases" in printed


def test_organs_that_many_cases_lack_are_counted(amos, raw, capsys, monkeypatch):
    monkeypatch.setattr("unetr_nnunet.cli.convert.MAX_CASE_LINES", 1)
    for case in ("amos_0001", "amos_0004"):
        voxels = amos.label_voxels(case)
        voxels[voxels == 4] = 0
        amos.write_label(case, voxels)
    assert main(["convert", "amos", str(amos.folder)]) == 0
    printed = capsys.readouterr().out
    assert "no gallbladder in 2 cases (see conversion.json)" in printed
    assert "amos_0001: no" not in printed


@pytest.fixture
def openkbp_clone(tmp_path):
    for number in (1, 201, 241):
        write_patient(tmp_path / "open-kbp", number)
    write_patient(tmp_path / "open-kbp", 2, lacking=("Larynx",))
    return tmp_path / "open-kbp"


def test_openkbp_with_chosen_organs(openkbp_clone, raw, capsys):
    assert main(["convert", "openkbp", str(openkbp_clone), "--organs", "larynx", "spinal_cord"]) == 0
    printed = capsys.readouterr().out
    assert f"wrote {raw / 'Dataset055_OpenKBP'}" in printed
    assert "split own: 2 training cases, 1 test cases (1 with labels), 1 fixed fold in splits_final.json" in printed
    assert "left out, without contours of larynx: HN_002" in printed
    assert "nnUNetv2_train 55 3d_fullres 0 -tr nnUNetTrainerUNETR_NoLRFlip --npz" in printed
    dataset = json.loads((raw / "Dataset055_OpenKBP" / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0, "spinal_cord": 1, "larynx": 2}


def test_openkbp_with_an_unknown_organ(openkbp_clone, raw, capsys):
    assert main(["convert", "openkbp", str(openkbp_clone), "--organs", "liver", "larynx"]) == 1
    assert capsys.readouterr().err.startswith("error: --organs liver: OpenKBP draws brainstem, ")
    assert not raw.exists()


def test_openkbp_says_where_it_is_got(capsys):
    with pytest.raises(SystemExit):
        main(["convert", "openkbp", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "git clone https://github.com/ababier/open-kbp (MIT licence; cite Babier et al." in printed
    assert "(default: brainstem spinal_cord right_parotid left_parotid mandible)" in printed
