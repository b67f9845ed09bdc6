"""Made-up results of models, with masks on disk where pictures are wanted."""

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from tests.evaluation.made_up import evaluation, score
from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.evaluation.protocols import ProtocolDescription
from unetr_nnunet.organs import ORGANS

LIVER, SPLEEN = ORGANS[5], ORGANS[0]
IDS = {"spleen": 1, "liver": 6}
PROTOCOL = ProtocolDescription("nnunet", "every label on the original grid", "nnU-Net v2")
SIZE = (10, 30, 40)  # z, y, x
SPACING = (1.0, 2.0, 5.0)  # x, y, z


def model(name: str, dice: dict[str, dict[str, float]], folder: Path = Path("nowhere"), **more: Any) -> ModelResults:
    """Return results without any file, from Dice by organ and case; NaN where a case is not named."""
    cases = sorted({case for values in dice.values() for case in values})
    organs = {case: {organ: score(values.get(case, math.nan)) for organ, values in dice.items()} for case in cases}
    label_ids = {organ: IDS.get(organ, 50 + place) for place, organ in enumerate(dice)}
    own = {field.name for field in fields(ModelResults)}
    results = {key: more.pop(key) for key in list(more) if key in own}
    scored = evaluation(organs, *dice, **{"protocol": PROTOCOL, "label_ids": label_ids, **more})
    return ModelResults(name, scored, folder=folder, **results)


def random_model(
    name: str, cases: int, *, mean: float = 0.8, seed: int = 0, organs: int = 2, **more: Any
) -> ModelResults:
    """Return a model whose Dice varies from case to case, alike for all models, and a little by itself."""
    names = [organ.name for organ in (SPLEEN, LIVER, *ORGANS[1:5], *ORGANS[6:])][:organs]
    common = np.random.default_rng(99).normal(0, 0.05, (cases, organs))
    own = np.random.default_rng(seed).normal(0, 0.005, (cases, organs))
    values = np.clip(mean + common + own, 0, 1)
    dice = {
        organ: {f"case_{case:04}": float(values[case, place]) for case in range(cases)}
        for place, organ in enumerate(names)
    }
    return model(name, dice, **more)


def write_volume(path: Path, array: np.ndarray, orientation: str = "LPS") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    sitk.WriteImage(sitk.DICOMOrient(image, orientation), str(path))
    return path


def truth() -> np.ndarray:
    """A liver at the patient's right (low x) and a spleen at the left."""
    labels = np.zeros(SIZE, np.uint8)
    labels[2:8, 8:22, 4:16] = LIVER.id
    labels[4:7, 10:18, 28:34] = SPLEEN.id
    return labels


def with_masks(
    name: str, root: Path, wrong_at: tuple[int, int, int], case: str = "case_0001", **more: Any
) -> ModelResults:
    """Return a model that misses the spleen's voxel column around a place, with files of one case."""
    array = truth()
    z, y, x = wrong_at
    array[z, y - 2 : y + 2, x - 2 : x + 2] = 0
    prediction = write_volume(root / name.replace("/", "_") / f"{case}.nii.gz", array)
    label = write_volume(root / "labels" / f"{case}.nii.gz", truth())
    files = {"predictions": {case: prediction}, "labels": {case: label}}
    return model(name, {"spleen": {case: 0.5}, "liver": {case: 0.9}}, folder=prediction.parent, **files, **more)


def write_log(folder: Path, fold: str = "0", epochs: int = 3) -> Path:
    """Write a training log as nnU-Net 2.8 does. Returns the trainer folder."""
    lines = ["", "#####", "2026-11-23 11:56:11.396739: do_dummy_2d_data_aug: False "]
    for epoch in range(epochs):
        dice = 0.2 * (epoch + 1)
        lines += [
            f"2026-11-23 12:0{epoch}:00.000000: Epoch {epoch} ",
            f"2026-11-23 12:0{epoch}:00.000000: Current learning rate: 0.01 ",
            f"2026-11-23 12:0{epoch}:50.000000: train_loss {0.5 - epoch:.4f} ",
            f"2026-11-23 12:0{epoch}:50.000000: val_loss {0.25 - epoch} ",
            f"2026-11-23 12:0{epoch}:50.000000: Pseudo dice [np.float32({dice:.4f}), np.float32(nan), 0.0] ",
            f"2026-11-23 12:0{epoch}:50.000000: Epoch time: 36.0 s ",
            f"2026-11-23 12:0{epoch}:50.000000: Yayy! New best EMA pseudo Dice: {dice} ",
        ]
    lines += [
        "2026-11-23 12:10:00.000000: predicting case_0 ",
        "2026-11-23 12:10:10.000000: predicting case_1 ",
        "2026-11-23 12:10:30.000000: Validation complete ",
        "2026-11-23 12:10:30.000000: Mean Validation Dice:  0.3764096440580692 ",
    ]
    path = folder / f"fold_{fold}" / "training_log_2026_11_23_11_56_10.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))
    return folder


def write_plans(folder: Path) -> None:
    configurations = {
        "3d_fullres": {"patch_size": [48, 192, 192], "spacing": [3.0, 0.76, 0.76], "batch_size": 2},
        "3d_small": {"inherits_from": "3d_fullres", "batch_size": 4},
    }
    plans = {"dataset_name": "Dataset917_Blobs", "plans_name": "nnUNetPlans", "configurations": configurations}
    (folder / "plans.json").write_text(json.dumps(plans))
