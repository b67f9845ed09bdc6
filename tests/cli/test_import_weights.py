import json

import pytest
import torch

from tests.weights.monai_unetr import HEADS, WINDOW, make_unetr
from unetr_nnunet.cli.main import main

OPTIONS = ["--heads", str(HEADS), "--window", *map(str, WINDOW)]
MODEL = "nnUNetTrainerUNETR__UNETRImportedPlans__3d_fullres"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("released") / "released.pth"
    torch.save(make_unetr().state_dict(), path)
    return path


@pytest.fixture
def plans(checkpoint, tmp_path):
    assert main(["import-weights", str(checkpoint), "-o", str(tmp_path / "model"), *OPTIONS]) == 0
    content = json.loads((tmp_path / "model" / MODEL / "plans.json").read_text())
    content |= {"plans_name": "nnUNetPlans", "dataset_name": "Dataset017_BTCV"}
    content["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] = {}
    (tmp_path / "nnUNetPlans.json").write_text(json.dumps(content))
    return tmp_path / "nnUNetPlans.json"


def test_a_model_folder_and_the_command_that_uses_it(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("nnUNet_results", raising=False)
    output = tmp_path / "results" / "Dataset017_BTCV"
    assert main(["import-weights", str(checkpoint), "-o", str(output), *OPTIONS]) == 0
    printed = capsys.readouterr().out
    assert "1 channel in, 14 out, windows of 32 x 48 x 64 voxels (x, y, z), tokens 48 wide, 4 heads" in printed
    assert f"wrote {output / MODEL}" in printed
    assert f"nnUNetv2_predict_from_modelfolder -m {output / MODEL} -f all -i IMAGES -o MASKS" in printed
    assert (output / MODEL / "fold_all" / "checkpoint_final.pth").is_file()


def test_a_model_in_nnunets_results_is_named_by_its_data_set(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    assert main(["import-weights", str(checkpoint), "-o", str(tmp_path / "Dataset017_BTCV"), *OPTIONS]) == 0
    assert (
        "nnUNetv2_predict -d 17 -c 3d_fullres -tr nnUNetTrainerUNETR -p UNETRImportedPlans -f all"
        in capsys.readouterr().out
    )


def test_a_training_s_start_and_the_command_that_uses_it(checkpoint, plans, tmp_path, capsys):
    start = tmp_path / "start here.pth"
    assert main(["import-weights", str(checkpoint), "--for", str(plans), "-o", str(start), *OPTIONS]) == 0
    printed = capsys.readouterr().out
    assert f"wrote {start}, for 4 x 3 x 2 tokens" in printed
    assert f"wrote {tmp_path / 'nnUNetPlans_UNETRImported.json'}: those plans with this network" in printed
    assert (
        "nnUNetv2_train Dataset017_BTCV 3d_fullres 0 -tr nnUNetTrainerUNETR -p nnUNetPlans_UNETRImported "
        f"-pretrained_weights '{start}'" in printed
    )
    assert "note:" not in printed
    assert start.is_file()


def test_plans_with_a_reader_that_ignores_orientation(checkpoint, plans, tmp_path, capsys):
    content = json.loads(plans.read_text())
    plans.write_text(json.dumps({**content, "image_reader_writer": "SimpleITKIO"}))
    words = ["import-weights", str(checkpoint), "--for", str(plans), "-o", str(tmp_path / "start.pth"), *OPTIONS]
    assert main(words) == 0
    assert "note: SimpleITKIO does not bring images to the orientation" in capsys.readouterr().out
    imported = ["--for", str(tmp_path / "nnUNetPlans_UNETRImported.json"), "-o", str(tmp_path / "again.pth")]
    assert main(["import-weights", str(checkpoint), *imported, *OPTIONS]) == 0
    assert "those plans with this network" not in capsys.readouterr().out


def test_errors_are_one_line_and_nothing_is_written(checkpoint, tmp_path, capsys):
    output = tmp_path / "Dataset017_BTCV"
    assert main(["import-weights", str(checkpoint), "-o", str(output)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {checkpoint} has tokens of 48 channels")
    assert error.count("\n") == 1
    assert not output.exists()
    assert main(["import-weights", str(tmp_path / "none.pth"), "-o", str(output)]) == 1
    assert "none.pth: there is no such file" in capsys.readouterr().err
    assert not output.exists()


def test_what_exists_is_kept(checkpoint, tmp_path, capsys):
    words = ["import-weights", str(checkpoint), "-o", str(tmp_path), *OPTIONS]
    assert main(words) == 0
    assert main(words) == 1
    assert "exists already and was left as it is; --overwrite replaces it" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


def test_a_file_in_place_of_the_output_folder(checkpoint, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert main(["import-weights", str(checkpoint), "-o", str(tmp_path / "file"), *OPTIONS]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'file'} is a file, and ")
    assert (tmp_path / "file").read_text() == "mine"


def test_wrong_usage_exits_with_2():
    for words in (
        ["import-weights"],
        ["import-weights", "file.pth"],
        ["import-weights", "f", "-o", "d", "--window", "9"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
