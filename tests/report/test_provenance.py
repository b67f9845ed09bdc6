import hashlib
import json
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.evaluation.nnunet_tree import DATASET, write_labels, write_tree
from tests.report.studies import model, with_masks, write_log, write_plans
from unetr_nnunet.cli.main import main
from unetr_nnunet.evaluation.model_results import read_model
from unetr_nnunet.report import provenance
from unetr_nnunet.report.models import gather
from unetr_nnunet.report.training import read_training

DICE = {"liver": {"a": 0.5}}


def test_commands_of_nnunet(tmp_path: Path) -> None:
    folder = tmp_path / "Dataset017_BTCV" / "nnUNetTrainerUNETR__nnUNetPlans__3d_fullres"
    write_log(folder, "0")
    write_log(folder, "3")
    trained = model("m", DICE, folder)
    lines = provenance.commands(trained, read_training(trained))
    assert lines[1:2] == ["nnUNetv2_train Dataset017_BTCV 3d_fullres 3 -tr nnUNetTrainerUNETR -p nnUNetPlans"]
    masks = tmp_path / "my masks"
    masks.mkdir()
    images = tmp_path / "images"
    images.mkdir()
    (masks / "predict_from_raw_data_args.json").write_text(json.dumps({"list_of_lists_or_source_folder": str(images)}))
    predicted = model("m", DICE, masks)
    lines = provenance.commands(predicted, read_training(predicted, folder))
    assert lines[2] == (
        f"nnUNetv2_predict -i {images} -o '{masks}' -d Dataset017_BTCV -c 3d_fullres -tr nnUNetTrainerUNETR "
        "-p nnUNetPlans -f 0 3"
    )
    assert provenance.image_folder([trained, predicted]) == images


def test_what_scores_a_trainer_folder_can_be_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    folder = write_tree(tmp_path)
    labels = tmp_path / "nnUNet_preprocessed" / DATASET / "gt_segmentations"
    write_labels(labels.parent)  # as nnU-Net does
    trained = read_model(folder)
    lines = provenance.commands(trained, read_training(trained))
    scoring = [line for line in lines if line.startswith("unetr_nnunet evaluate")]
    assert scoring == [
        f"unetr_nnunet evaluate {folder}/fold_{fold}/validation {labels} --protocol nnunet" for fold in range(3)
    ]
    for line in scoring:
        assert main([*shlex.split(line)[1:], "--workers", "1"]) == 1, "labels of the other folds have no prediction"
    assert "2 cases scored" in capsys.readouterr().out
    validation = folder / "fold_1" / "validation"
    alone = read_model(validation / "metrics.json")
    assert provenance.commands(alone, read_training(alone))[-1] == f"# figures taken from {alone.folder}"
    for mask in validation.glob("*.nii.gz"):
        mask.unlink()
    rest = read_model(folder)
    lines = provenance.commands(rest, read_training(rest))
    assert lines[-3:] == [scoring[0], scoring[2], f"# figures taken from {validation / 'metrics.json'}"]


def test_hashes_are_those_of_sha256sum(tmp_path: Path) -> None:
    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        (tmp_path / name).write_bytes(content)
    assert provenance.hash_file(tmp_path / "a") == hashlib.sha256(b"one").hexdigest()
    script = "sha256sum a b c | awk '{print $1}' | LC_ALL=C sort -u | sha256sum"
    theirs = subprocess.run(script, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert provenance.hash_files(tmp_path / name for name in "cab") == theirs.split()[0]
    assert provenance.hash_files([tmp_path / "missing"]) is None


def test_everything_to_repeat_a_study(tmp_path: Path) -> None:
    folder = tmp_path / "nnUNetTrainerUNETR__nnUNetPlans__3d_small"
    write_plans(write_log(folder))
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"weights")
    scored = with_masks("m", tmp_path, (5, 14, 30), seed=3)
    content = provenance.context(
        gather([scored]), {"m": read_training(scored, folder)}, ["unetr_nnunet", "report", "a b"]
    )
    (shown,) = content["models"]
    assert shown["seed"] == 3
    assert dict(shown["hashes"])["fold_0/checkpoint_final.pth"] == hashlib.sha256(b"weights").hexdigest()
    assert "plans.json" in dict(shown["hashes"])
    assert shown["masks_hash"] != content["labels_hash"]
    assert content["report_command"] == "unetr_nnunet report 'a b'"
    assert "numpy" in dict(content["versions"])
