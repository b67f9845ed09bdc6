"""nnU-Net's folders after a training, with masks of three organs in small volumes."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

DATASET = "Dataset917_Blobs"
MODEL = "nnUNetTrainerUNETR_Tiny_2epochs_seed3__nnUNetPlans__3d_fullres"
LABELS = {"background": 0, "spleen": 1, "liver": 2, "gallbladder": 3}
SPLITS = (("case_0", "case_3"), ("case_1", "case_4"), ("case_2",))


def write_mask(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.0, 2.0))
    sitk.WriteImage(image, str(path))


def truth(case: int) -> np.ndarray:
    """Random labels; case 4 has no gallbladder."""
    labels = np.random.default_rng(case).integers(0, 4, (4, 8, 8), np.uint8)
    labels[labels == (3 if case == 4 else 99)] = 0
    return labels


def prediction(case: int, wrong: float = 0.2, seed: int = 0) -> np.ndarray:
    """Return the truth with a share of its voxels drawn anew."""
    random = np.random.default_rng((seed, case))
    labels = truth(case)
    changed = random.random(labels.shape) < wrong
    labels[changed] = random.integers(0, 4, changed.sum(), np.uint8)
    return labels


def write_tree(root: Path, *, model: str = MODEL, folds: tuple[int, ...] = (0, 1, 2), wrong: float = 0.2) -> Path:
    """Write a trained model and the labels of its data set. Returns the model's folder."""
    preprocessed = root / "nnUNet_preprocessed" / DATASET
    for case in range(5):
        write_mask(preprocessed / "gt_segmentations" / f"case_{case}.nii.gz", truth(case))
    cases = [case for fold in SPLITS for case in fold]
    splits = [{"train": [case for case in cases if case not in fold], "val": list(fold)} for fold in SPLITS]
    (preprocessed / "splits_final.json").write_text(json.dumps(splits))
    folder = root / "nnUNet_results" / DATASET / model
    for fold in folds:
        for case in SPLITS[fold]:
            array = prediction(int(case[-1]), wrong)
            write_mask(folder / f"fold_{fold}" / "validation" / f"{case}.nii.gz", array)
    write_labels(folder)
    return folder


def write_labels(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"labels": LABELS}))
