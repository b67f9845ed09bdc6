"""Each baseline is planned, trained for a short epoch, and predicts in a fresh process; one report shows them all."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from tests.conftest import DATASET, nnunet_command, set_nnunet_folders, use_threads
from unetr_nnunet.cli.main import main
from unetr_nnunet.trainers.factory import trainer_class

pytestmark = pytest.mark.slow

PATCHES = {
    "SwinUNETR_F24": ("32", "32", "64"),
    "SegResNetDS": (),
    "MedNeXt_S": (),
    "PrimusV3_S": (),
    "ResEnc": (),
    "PlainConvUNet_Tiny": (),
}
"""Network and size → patch, where one that covers these small volumes would end in a map of one voxel."""


def trainer_name(network: str) -> str:
    return f"nnUNetTrainerNet_{network}_NoAug_1epochs_seed0"


@pytest.fixture(scope="module")
def root(_preprocessed_blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The blobs; nnU-Net's variables point at them."""
    folder = tmp_path_factory.mktemp("baselines")
    shutil.copytree(_preprocessed_blobs, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_nnunet_folders(monkeypatch, folder)
        use_threads(monkeypatch)
        yield folder


def plan_and_train(root: Path, network: str) -> Path:
    """Return the folder of the model."""
    name, _, size = network.partition("_")
    patch = ["--patch-size", *PATCHES[network], "--batch-size", "2"] if PATCHES[network] else []
    words = ["plan", "-d", "917", "--architecture", name, "--size", size, "--gpu-memory", "4", "--name", name, *patch]
    assert main(words) == 0
    folder = root / "nnUNet_preprocessed" / DATASET
    plans, dataset = (json.loads((folder / file).read_text()) for file in (f"{name}.json", "dataset.json"))
    plans["continue_training"] = False
    trainer = trainer_class(trainer_name(network))(plans, "3d_fullres", 0, dataset, torch.device("cpu"))
    trainer.logger.plot_progress_png = lambda folder: None
    trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 3, 1
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("nnUNet_n_proc_DA", "0")  # nnU-Net's planner would take it for its number of threads
        trainer.run_training()
        trainer.perform_actual_validation()
    return Path(trainer.output_folder_base)


@pytest.fixture(scope="module")
def models(root: Path) -> dict[str, Path]:
    """The folders of the trained models."""
    return {network: plan_and_train(root, network) for network in PATCHES}


@pytest.mark.parametrize("network", PATCHES)
def test_a_fresh_process_predicts(root: Path, models: dict[str, Path], network: str) -> None:
    images, masks = root / "nnUNet_raw" / DATASET / "imagesTs", root / network
    nnunet_command("unetr_nnunet", "predict", "-i", str(images), "-o", str(masks), "-m", str(models[network]))
    image, mask = (nibabel.load(path) for path in (images / "case_5_0000.nii.gz", masks / "case_5.nii.gz"))
    assert mask.shape == image.shape
    assert set(np.unique(mask.dataobj)) <= {0, 1, 2}


def test_one_report_shows_them_all(tmp_path: Path, models: dict[str, Path]) -> None:
    page = tmp_path / "report.html"
    nnunet_command("unetr_nnunet", "report", *map(str, models.values()), "-o", str(page))
    text = page.read_text()
    for network in PATCHES:
        assert trainer_name(network).removesuffix("_seed0") in text
        assert f"{network.partition('_')[0]} (unetr_nnunet 0.1.0)" in text
