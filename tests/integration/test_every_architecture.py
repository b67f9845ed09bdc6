"""Every architecture, each with another set of tokens, trains two epochs and predicts in fresh processes."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.conftest import DATASET, nnunet_command, shorten_epochs

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "tokens",
    [
        "NoTransformer_Tiny_NoAug",
        "CNNStem_Tiny_Paper_Baseline",
        "ModernViT_Tiny_LightAug_NoLRFlip",
        "AlignedSkips_Tiny_StrongAug",
        "FPN_Tiny_NoIntensity",
        "ModifiedV1_Tiny_lr8e-3_vitlr1e-3_NoAug",
        "FineTokens_Tiny_NoAug",
        "ProjectedStem_Tiny_NoAug",
        "LocalViT_Tiny_NoAug",
        "Modified_Tiny_FlipOnly_NoLRFlip",
        "Modified_NoTransformer_Tiny",
        "ModifiedConv_Tiny_NoAug",
    ],
)
def test_trains_and_predicts(blobs: Path, tokens: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")  # on small volumes a process of its own costs more than it brings
    trainer = f"nnUNetTrainerUNETR_{tokens}_2epochs_seed0"
    shorten_epochs(monkeypatch, 250 if "Paper" in tokens else 60)  # the paper's rate is low
    printed = nnunet_command("nnUNetv2_train", "917", "3d_fullres", "0", "-tr", trainer, "-device", "cpu")
    assert "Epoch 1\n" in printed
    images = blobs / "nnUNet_raw" / DATASET / "imagesTs"
    choice = ("-d", "917", "-c", "3d_fullres", "-tr", trainer, "-f", "0", "-device", "cpu", "-npp", "0", "-nps", "0")
    nnunet_command("nnUNetv2_predict", *choice, "-i", str(images), "-o", str(blobs / "masks"))
    image = np.asarray(nibabel.load(images / "case_5_0000.nii.gz").dataobj)
    mask = np.asarray(nibabel.load(blobs / "masks" / "case_5.nii.gz").dataobj)
    for label, expected in ((1, image > 150), (2, image < -150)):
        overlap = 2 * np.sum((mask == label) & expected) / (np.sum(mask == label) + expected.sum())
        assert overlap > 0.5, "two balls of distinct brightness are easy"
