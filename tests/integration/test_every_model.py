"""Every kind of model folder that anything here or in nnU-Net writes, through everything that predicts with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from tests.inference.small_model import DATASET, REGIONS, RESIDUAL, plans, write_model
from tests.inference.test_predictor import agreement, ct, stock
from tests.weights.monai_unetr import HEADS, WINDOW, make_unetr
from unetr_nnunet.cli.main import main
from unetr_nnunet.experiments.best_model import BestModel
from unetr_nnunet.experiments.model_bundle import write_bundle
from unetr_nnunet.inference.model import load_model
from unetr_nnunet.inference.model_set import read_model_set
from unetr_nnunet.inference.predictor import Predictor
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, trainer_folder
from unetr_nnunet.weights.imported_model import write_model_folder
from unetr_nnunet.weights.released_unetr import recognise

pytestmark = pytest.mark.slow

OURS = "nnUNetTrainerUNETR_Modified_Tiny"


def of_our_planner(folder: Path) -> Path:
    """Plans as `unetr_nnunet plan` writes them resample with torch and name no layer of nnU-Net's."""
    resampling = {"is_seg": False, "force_separate_z": None, "memefficient_seg_resampling": False}
    changes = {f"resampling_fn_{what}": "resample_torch_fornnunet" for what in ("data", "probabilities")}
    changes |= {f"resampling_fn_{what}_kwargs": resampling for what in ("data", "probabilities")}
    return write_model(folder, plans(**changes), trainer=OURS)


def imported(folder: Path) -> Path:
    released = recognise(make_unetr().state_dict(), "released.pth", heads=HEADS, window=WINDOW)
    return write_model_folder(released, "released.pth", folder)


def best_model(folder: Path) -> Path:
    results, name = folder / "results", "nnUNetTrainer__nnUNetPlans__3d_fullres"
    write_model(results / name, folds=2)
    best = BestModel((name,), (0, 1), 0.5, {(name,): 0.5}, (name,), (), results / name / "crossval_results")
    return write_bundle(best, results, folder / "best_model" / "Dataset999_Toy")


PRODUCERS: dict[str, Callable[[Path], Path]] = {
    "nnU-Net's default": write_model,
    "residual encoder": lambda folder: write_model(folder, plans(network_class=RESIDUAL)),
    "slices": lambda folder: write_model(folder, plans(patch=(32, 32), spacing=(1.5, 1.5)), mirror_axes=(0, 1)),
    "ours on nnU-Net's plans": lambda folder: write_model(folder, trainer=OURS),
    "ours on our plans": of_our_planner,
    "imported": imported,
    "best_model": best_model,
    "regions": lambda folder: write_model(folder, dataset=DATASET | REGIONS),
    "two channels": lambda folder: write_model(
        folder,
        plans(normalization_schemes=["CTNormalization", "ZScoreNormalization"], use_mask_for_norm=[False, False]),
        DATASET | {"channel_names": {"0": "CT", "1": "MR"}},
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write_case(folder: Path, channels: int) -> list[Path]:
    folder.mkdir()
    paths = []
    for channel in range(channels):
        image = ct("RAS", shape=(20, 62, 58), seed=channel)
        paths.append(folder / f"case_{channel:04d}.nii.gz")
        sitk.WriteImage(image, str(paths[-1]))
    return paths


@pytest.mark.parametrize("producer", PRODUCERS)
def test_whoever_made_it_everybody_predicts_alike(producer: str, folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv(EXTERNAL_TRAINERS, str(trainer_folder()))
    given = PRODUCERS[producer](folder / "made")
    if given.suffix == ".zip":
        shutil.unpack_archive(given, folder / "unpacked")
        model_set = read_model_set(next((folder / "unpacked").iterdir()))
        assert model_set is not None
        (model_folder,) = model_set.models
    else:
        model_folder = given
    model = load_model(model_folder)
    images = write_case(folder / "in", len(model.channel_names))
    masks = {}
    for option in ("", "--exact", "--save-probabilities", "--fast"):
        output = folder / f"out{option}"
        words = ["predict", "-i", str(folder / "in"), "-o", str(output), "-m", str(given), "--device", "cpu"]
        assert main([*words, *filter(None, [option])]) == 0
        masks[option] = sitk.ReadImage(str(output / "case.nii.gz"))
    arrays = {option: sitk.GetArrayFromImage(mask) for option, mask in masks.items()}
    in_python = Predictor([model]).predict([sitk.ReadImage(str(path)) for path in images])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(in_python), arrays[""])
    np.testing.assert_array_equal(arrays["--save-probabilities"], arrays[""])
    probabilities = np.load(folder / "out--save-probabilities" / "case.npz")["probabilities"]
    assert probabilities.shape == (model.labels.num_segmentation_heads, *arrays[""].shape)
    theirs, their_probabilities = stock(model_folder, images, folds=_folds(model_folder))
    assert agreement(masks["--exact"], theirs, their_probabilities) > 0.9999
    assert np.mean(arrays[""] == arrays["--exact"]) > 0.9, "noise has many near-ties, which bfloat16 moves"


def _folds(model_folder: Path) -> tuple[int | str, ...]:
    names = sorted(path.name.removeprefix("fold_") for path in model_folder.glob("fold_*"))
    return tuple(int(name) if name.isdigit() else name for name in names)


@pytest.mark.parametrize("given", ["order", "options", "function"])
def test_what_only_nnunet_can_resample_is_refused_at_loading(given: str, folder: Path, capsys: Any) -> None:
    change: dict[str, Any] = {
        "order": {"resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 2, "force_separate_z": False}},
        "options": {"resampling_fn_probabilities_kwargs": {"is_seg": True, "order": 1, "force_separate_z": False}},
        "function": {"resampling_fn_probabilities": "no_resampling_data_or_seg_to_shape"},
    }[given]
    write_model(folder / "model", plans(**change))
    write_case(folder / "in", 1)
    words = ["-i", str(folder / "in"), "-o", str(folder / "out"), "-m", str(folder / "model")]
    assert main(["predict", *words]) == 1
    assert "only nnUNetv2_predict can resample probabilities by" in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_weights_that_are_not_finite_are_refused_at_loading(folder: Path, capsys: Any) -> None:
    model = write_model(folder / "model", folds=2)
    path = model / "fold_1" / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    name, tensor = list(checkpoint["network_weights"].items())[3]
    tensor.view(-1)[0] = float("nan")
    torch.save(checkpoint, path)
    write_case(folder / "in", 1)
    words = ["-i", str(folder / "in"), "-o", str(folder / "out"), "-m", str(model)]
    assert main(["predict", *words]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"{path} holds weights that are not finite ({name}), so its training has failed: choose another" in error
    assert json.loads((model / "plans.json").read_text())
    assert main(["predict", *words, "-f", "0"]) == 0
