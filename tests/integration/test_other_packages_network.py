"""Another package's network, and a trainer class that somebody wrote, from plan to report in fresh processes."""

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.conftest import DATASET, nnunet_command, shorten_epochs
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS

pytestmark = pytest.mark.slow

MINE = """
from unetr_nnunet.trainers.names import TrainerName
from unetr_nnunet.trainers.unetr_trainer import nnUNetTrainerUNETR

class nnUNetTrainerUNETRMine(nnUNetTrainerUNETR):
    settings = TrainerName("Pyramid", augmentation="NoAug", epochs=1, seed=4)
"""


@pytest.mark.parametrize("trainer", ["nnUNetTrainerNet_Pyramid_NoAug_1epochs_seed4", "nnUNetTrainerUNETRMine"])
def test_from_plan_to_report(
    otherlab: None, blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: str
) -> None:
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "mine.py").write_text(MINE)
    nnunet_command("unetr_nnunet", "plan", "-d", "917", "--architecture", "Pyramid", "--gpu-memory", "2")
    plans_file = blobs / "nnUNet_preprocessed" / DATASET / "UNETRPlans_Pyramid.json"
    assert json.loads(plans_file.read_text())["configurations"]["3d_fullres"]["data_identifier"].startswith("nnUNetPl")
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    before = os.environ[EXTERNAL_TRAINERS]
    monkeypatch.setenv(EXTERNAL_TRAINERS, f"{before}:{tmp_path / 'trainers'}")
    shorten_epochs(monkeypatch, 150)
    choice = ("-p", "UNETRPlans_Pyramid", "-tr", trainer)
    printed = nnunet_command("nnUNetv2_train", "917", "3d_fullres", "0", *choice, "-device", "cpu")
    assert "Pyramid (otherlab 1.2)" in printed
    model = blobs / "nnUNet_results" / DATASET / f"{trainer}__UNETRPlans_Pyramid__3d_fullres"
    images = blobs / "nnUNet_raw" / DATASET / "imagesTs"
    nnunet_command("unetr_nnunet", "predict", "-i", str(images), "-o", str(blobs / "ours"), "-m", str(model))
    ours = np.asarray(nibabel.load(blobs / "ours" / "case_5.nii.gz").dataobj)
    image = np.asarray(nibabel.load(images / "case_5_0000.nii.gz").dataobj)
    for label, expected in ((1, image > 150), (2, image < -150)):
        assert 2 * np.sum((ours == label) & expected) / (np.sum(ours == label) + expected.sum()) > 0.5
    if trainer == "nnUNetTrainerUNETRMine":
        return
    options = ("-f", "0", "-device", "cpu", "-npp", "0", "-nps", "0", "-i", str(images), "-o", str(blobs / "stock"))
    nnunet_command("nnUNetv2_predict", "-d", "917", "-c", "3d_fullres", *choice, *options)
    stock = np.asarray(nibabel.load(blobs / "stock" / "case_5.nii.gz").dataobj)
    assert np.mean(ours != stock) < 1e-3
    page = tmp_path / "report.html"
    nnunet_command("unetr_nnunet", "report", str(model), "-o", str(page))
    assert "Pyramid (otherlab 1.2)" in page.read_text()
