"""Write a released UNETR as an nnU-Net model folder.

The preprocessing is that of the UNETR authors' BTCV code (UNETR/BTCV/utils/data_utils.py of
https://github.com/Project-MONAI/research-contributions), as far as plans can express it: orientation RAS, linear
interpolation to 1.5 x 1.5 x 2.0 mm, HU -175..250 mapped to 0..1. nnU-Net's ``CTNormalization`` clips to the 0.5 and
99.5 percentiles of the plans, subtracts their mean and divides by their standard deviation; with -175, 250, -175 and
425 that is this map. Its foreground crop cannot be expressed: nnU-Net crops what is exactly 0.
"""

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from unetr_nnunet.architectures.planned import architecture_entry
from unetr_nnunet.nnunet.folders import FINAL_CHECKPOINT
from unetr_nnunet.organs import BACKGROUND, ORGAN_NAMES
from unetr_nnunet.trainers.names import BASE_NAME
from unetr_nnunet.trainers.tokens import ORIGINAL
from unetr_nnunet.weights.axis_order import reorder_axes
from unetr_nnunet.weights.released_unetr import TOKEN_LENGTH, ReleasedUNETR

PLANS_NAME = "UNETRImportedPlans"
CONFIGURATION = "3d_fullres"
FOLD = "all"
READER = "NibabelIOWithReorient"
TOKEN_SIZE = (TOKEN_LENGTH,) * 3
SPACING_MM = (2.0, 1.5, 1.5)
"""Voxel spacing of the released model, (z, y, x)."""
WINDOW_HU = (-175.0, 250.0)
"""What is mapped to 0 and to 1."""
MONAI_TO_NNUNET = (2, 1, 0)
"""For each axis of nnU-Net's arrays, MONAI's: (x, y, z) becomes (z, y, x)."""


def imported_folder(output: Path) -> Path:
    """Return where `write_model_folder` puts the model below ``output``."""
    return output / f"{BASE_NAME}__{PLANS_NAME}__{CONFIGURATION}"


def check_absent(path: Path, overwrite: bool) -> None:
    """Refuse to replace what exists.

    Raises:
        FileExistsError: if it exists and ``overwrite`` is not set.
        NotADirectoryError: if it would lie in a file.
    """
    for parent in path.parents:
        if parent.is_file():
            raise NotADirectoryError(f"{parent} is a file, and {path.name} must lie in a folder: give another --output")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already and was left as it is; --overwrite replaces it")


def write_model_folder(released: ReleasedUNETR, source: str, output: Path, *, overwrite: bool = False) -> Path:
    """Write plans, dataset.json and checkpoint of a released model, so that nnUNetv2_predict runs it.

    The weights are brought to nnU-Net's axis order, so that the plans need no ``transpose_forward``. Test-time
    mirroring is switched off in the checkpoint, as MONAI's pipeline has none.

    Args:
        released: the network.
        source: where its weights come from, for dataset.json and messages.
        output: the folder of a data set in nnU-Net's results, ``.../nnUNet_results/DatasetXXX_Name``.
        overwrite: replace an existing model folder.

    Returns:
        The model folder.

    Raises:
        FileExistsError: if the model folder exists and ``overwrite`` is not set.
        ValueError: if the network does not take one channel, or has fewer than two outputs.
    """
    folder = imported_folder(output)
    check_absent(folder, overwrite)
    if released.in_channels != 1:
        raise ValueError(
            f"{source} takes {released.in_channels} image channels, and a CT has one: only the preprocessing of the CT "
            "model is known; use its weights for a training instead, with --for PLANS.json"
        )
    if released.out_channels < 2:
        raise ValueError(f"{source} has one output, but needs at least two: background and an organ")
    dataset = dataset_json(released.out_channels, source)
    plans = imported_plans(released, output.resolve().name)
    checkpoint = {
        "network_weights": reorder_axes(released.weights, MONAI_TO_NNUNET, released.grid, TOKEN_SIZE),
        "trainer_name": BASE_NAME,
        "init_args": {"plans": plans, "configuration": CONFIGURATION, "fold": FOLD, "dataset_json": dataset},
        "inference_allowed_mirroring_axes": None,
    }
    output.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=output, prefix=".tmp-"))
    try:
        new = temporary / folder.name
        (new / f"fold_{FOLD}").mkdir(parents=True)
        torch.save(checkpoint, new / f"fold_{FOLD}" / FINAL_CHECKPOINT)
        for name, content in (("plans.json", plans), ("dataset.json", dataset)):
            (new / name).write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(temporary / "replaced")
        new.rename(folder)
    finally:
        shutil.rmtree(temporary)
    return folder


def dataset_json(out_channels: int, source: str) -> dict[str, Any]:
    """Return the content of ``dataset.json``: BTCV's organs where there are 14 outputs, else numbered classes."""
    if out_channels == 1 + len(ORGAN_NAMES):
        names = ORGAN_NAMES
    else:
        names = {label: f"class_{label}" for label in range(1, out_channels)}
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": BACKGROUND, **{name: label for label, name in names.items()}},
        "numTraining": 0,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": READER,
        "description": f"UNETR imported from {Path(source).name}",
    }


def imported_plans(released: ReleasedUNETR, dataset_name: str) -> dict[str, Any]:
    """Return plans with the released model's preprocessing and network.

    Args:
        released: the network.
        dataset_name: of the data set whose results the model is put in.
    """
    patch_size = [released.grid[axis] * TOKEN_LENGTH for axis in MONAI_TO_NNUNET]
    low, high = WINDOW_HU
    linear = {"order": 1, "order_z": 1, "force_separate_z": False}
    resampling = "resample_data_or_seg_to_shape"
    return {
        "dataset_name": dataset_name,
        "plans_name": PLANS_NAME,
        "original_median_spacing_after_transp": list(SPACING_MM),
        "original_median_shape_after_transp": patch_size,
        "image_reader_writer": READER,
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {
            CONFIGURATION: {
                "data_identifier": f"{PLANS_NAME}_{CONFIGURATION}",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": patch_size,
                "median_image_size_in_voxels": patch_size,
                "spacing": list(SPACING_MM),
                "normalization_schemes": ["CTNormalization"],
                "use_mask_for_norm": [False],
                "resampling_fn_data": resampling,
                "resampling_fn_data_kwargs": {"is_seg": False, **linear},
                "resampling_fn_seg": resampling,
                "resampling_fn_seg_kwargs": {"is_seg": True, **linear},
                "resampling_fn_probabilities": resampling,
                "resampling_fn_probabilities_kwargs": {"is_seg": False, **linear},
                "batch_dice": True,
                "architecture": planned_architecture(released),
            }
        },
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {
                "percentile_00_5": low,
                "percentile_99_5": high,
                "mean": low,
                "std": high - low,
                "min": low,
                "max": high,
                "median": low,
            }
        },
    }


def planned_architecture(released: ReleasedUNETR) -> dict[str, Any]:
    """Return the ``architecture`` entry of a configuration whose network takes the released weights."""
    return architecture_entry(ORIGINAL, token_size=list(TOKEN_SIZE), taps="monai", size=asdict(released.size))
