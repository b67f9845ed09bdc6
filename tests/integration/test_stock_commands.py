"""Every stock nnU-Net command on our trainer, each in a fresh process, on one small data set."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from tests.conftest import DATASET, nnunet_command, set_nnunet_folders, shorten_epochs, write_blob_dataset
from unetr_nnunet.trainers.resumable import MINUTES_VARIABLE

pytestmark = pytest.mark.slow
TRAINER = "nnUNetTrainerUNETR_Tiny_2epochs"
MODEL = f"{TRAINER}__nnUNetPlans__3d_fullres"
CHOICE = ("-d", "917", "-c", "3d_fullres", "-tr", TRAINER)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stock")


@pytest.fixture(autouse=True)
def _folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_nnunet_folders(monkeypatch, root)
    shorten_epochs(monkeypatch, 100)


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(nibabel.load(path).dataobj) for path in sorted(folder.glob("*.nii.gz"))}


def test_plan_and_preprocess(root: Path) -> None:
    write_blob_dataset(root / "nnUNet_raw")
    words = ("-d", "917", "-c", "3d_fullres", "--verify_dataset_integrity", "-np", "1", "-npfp", "1")
    nnunet_command("nnUNetv2_plan_and_preprocess", *words)
    assert (root / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json").is_file()


def test_a_terminated_training_continues(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MINUTES_VARIABLE, "0.01")
    fold = root / "nnUNet_results" / DATASET / MODEL / "fold_0"
    command = [
        str(Path(sys.executable).parent / "nnUNetv2_train"),
        "917",
        "3d_fullres",
        "0",
        "-tr",
        TRAINER,
        "-device",
        "cpu",
    ]
    # as a cluster does it: SIGTERM to the whole group, augmentation workers included
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "Current learning rate" in line:
            break
    while process.poll() is None and not (fold / "checkpoint_latest.pth").exists():
        time.sleep(0.1)
    time.sleep(1)
    monkeypatch.delenv(MINUTES_VARIABLE)
    os.killpg(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 143, output
    checkpoint = torch.load(fold / "checkpoint_latest.pth", weights_only=False)
    assert checkpoint["current_epoch"] == 0
    assert len(checkpoint["finished_steps"]) > 0

    output = nnunet_command("nnUNetv2_train", *command[1:], "--c", "--npz")
    assert f"continuing this epoch after iteration {len(checkpoint['finished_steps'])}" in output
    assert (fold / "checkpoint_final.pth").is_file()
    assert len(list((fold / "validation").glob("*.npz"))) == 1
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert summary["foreground_mean"]["Dice"] > 0.5, "two blobs of distinct brightness are easy"


def test_validation_alone(root: Path) -> None:
    validation = root / "nnUNet_results" / DATASET / MODEL / "fold_0" / "validation"
    before = masks(validation)
    for path in validation.iterdir():
        path.unlink()
    nnunet_command("nnUNetv2_train", "917", "3d_fullres", "0", "-tr", TRAINER, "-device", "cpu", "--val", "--npz")
    after = masks(validation)
    assert list(after) == list(before)
    assert all(np.array_equal(after[name], before[name]) for name in before)
    assert list(validation.glob("*.npz"))


def test_a_second_fold_and_the_best_configuration(root: Path) -> None:
    nnunet_command("nnUNetv2_train", "917", "3d_fullres", "1", "-tr", TRAINER, "-device", "cpu", "--npz")
    output = nnunet_command(
        "nnUNetv2_find_best_configuration", "917", "-c", "3d_fullres", "-tr", TRAINER, "-f", "0", "1", "-np", "1"
    )
    assert TRAINER in output
    inference = root / "nnUNet_results" / DATASET / "inference_instructions.txt"
    assert TRAINER in inference.read_text()


def test_prediction_and_ensemble(root: Path) -> None:
    images = root / "nnUNet_raw" / DATASET / "imagesTs"
    for fold in ("0", "1"):
        words = (
            "-i",
            str(images),
            "-o",
            str(root / f"fold_{fold}"),
            "-f",
            fold,
            "-device",
            "cpu",
            "--save_probabilities",
        )
        nnunet_command("nnUNetv2_predict", *CHOICE, *words, "-npp", fold, "-nps", fold)  # in processes or without
    folders = [str(root / "fold_0"), str(root / "fold_1")]
    nnunet_command("nnUNetv2_ensemble", "-i", *folders, "-o", str(root / "ensemble"), "-np", "1")
    mask = masks(root / "ensemble")["case_5.nii.gz"]
    image = nibabel.load(images / "case_5_0000.nii.gz")
    assert mask.shape == image.shape
    values = np.asarray(image.dataobj)
    for label, expected in ((1, values > 150), (2, values < -150)):
        overlap = 2 * np.sum((mask == label) & expected) / (np.sum(mask == label) + expected.sum())
        assert overlap > 0.5


def test_a_model_travels_as_a_zip(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = root / "model.zip"
    nnunet_command("nnUNetv2_export_model_to_zip", *CHOICE, "-f", "0", "-o", str(archive), "--not_strict")
    monkeypatch.setenv("nnUNet_results", str(root / "elsewhere"))
    nnunet_command("nnUNetv2_install_pretrained_model_from_zip", str(archive))
    images = root / "nnUNet_raw" / DATASET / "imagesTs"
    words = ("-i", str(images), "-o", str(root / "travelled"), "-f", "0", "-device", "cpu", "-npp", "0", "-nps", "0")
    nnunet_command("nnUNetv2_predict", *CHOICE, *words)
    assert np.array_equal(masks(root / "travelled")["case_5.nii.gz"], masks(root / "fold_0")["case_5.nii.gz"])


def test_our_evaluation_agrees_with_nnunets_summary(root: Path) -> None:
    validation = root / "nnUNet_results" / DATASET / MODEL / "fold_0" / "validation"
    truth = root / "truth"
    truth.mkdir()
    for path in validation.glob("*.nii.gz"):
        (truth / path.name).symlink_to(root / "nnUNet_raw" / DATASET / "labelsTr" / path.name)
    labels = json.loads((root / "nnUNet_raw" / DATASET / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(labels))
    nnunet_command("unetr_nnunet", "evaluate", str(validation), str(truth), "-o", str(root / "metrics"))
    ours = json.loads((root / "metrics" / "metrics.json").read_text())
    theirs = json.loads((validation / "summary.json").read_text())
    assert ours["foreground_mean"]["dice"] == pytest.approx(theirs["foreground_mean"]["Dice"], abs=1e-6)


def test_a_wrong_trainer_name_is_explained(root: Path) -> None:
    with pytest.raises(RuntimeError, match=r"unknown token .Huge.\. Valid tokens, in this order: architecture"):
        nnunet_command("nnUNetv2_train", "917", "3d_fullres", "0", "-tr", "nnUNetTrainerUNETR_Huge", "-device", "cpu")
