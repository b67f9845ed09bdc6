"""Model folders of the sizes that people use, with random weights, for measurements of speed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from unetr_nnunet.inference.model_network import build_network
from unetr_nnunet.organs import ORGANS

SPACINGS_MM: dict[tuple[int, ...], tuple[float, ...]] = {
    (48, 192, 192): (3.0, 0.76, 0.76),
    (96, 96, 96): (1.5, 1.5, 1.5),
}
"""Patches (z, y, x) and the spacing that goes with them: what nnU-Net plans for BTCV, and the UNETR paper's."""
HU = {"mean": 80.0, "std": 140.0, "percentile_00_5": -958.0, "percentile_99_5": 327.0}
BACKGROUND = 0.85
"""Share of the voxels that the background wins, as in a CT of the abdomen; random weights leave it 7 %."""
_RESAMPLING = "resample_data_or_seg_to_shape"


@dataclass(frozen=True)
class Network:
    """A network to measure: title for the table, and name of the trainer."""

    title: str
    trainer: str


NETWORKS = {
    "original": Network("UNETR, base", "nnUNetTrainerUNETR"),
    "modified": Network("Modified UNETR, base", "nnUNetTrainerUNETR_Modified"),
    "nnunet": Network("nnU-Net's default network", "nnUNetTrainer"),
}


def write_untrained(folder: Path, network: Network, patch: tuple[int, ...], mirroring: bool, folds: int) -> Path:
    """Write a model folder of nnU-Net for BTCV's 13 organs.

    Args:
        folder: where to.
        network: which.
        patch: voxels per axis, one of `SPACINGS_MM`.
        mirroring: whether the model may be shown mirrored images, along all axes.
        folds: number of folds, each with weights of its own.
    """
    plans = _plans(patch)
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{organ.name: organ.id for organ in ORGANS}},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")
    for fold in range(folds):
        torch.manual_seed(fold)
        built = build_network(network.trainer, manager, configuration, 1, len(ORGANS) + 1)
        _favour_background(built, patch)
        (folder / f"fold_{fold}").mkdir()
        checkpoint = {
            "network_weights": built.state_dict(),
            "trainer_name": network.trainer,
            "init_args": {"configuration": "3d_fullres", "fold": fold},
            "inference_allowed_mirroring_axes": (0, 1, 2) if mirroring else None,
        }
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def _favour_background(network: nn.Module, patch: tuple[int, ...]) -> None:
    """Raise the background's logit so far that it wins `BACKGROUND` of the voxels of noise."""
    with torch.no_grad():
        logits = network(torch.randn(1, 1, *patch))[0]  # (K, *patch)
        ahead = (logits[1:].amax(0) - logits[0]).flatten()
        last = min(network.decoder.seg_layers, key=lambda layer: layer.weight.shape[1])  # that of full resolution
        last.bias[0] += ahead.kthvalue(int(BACKGROUND * len(ahead))).values


def _plans(patch: tuple[int, ...]) -> dict[str, Any]:
    """Return plans with the network that nnU-Net's planner makes for the patch."""
    spacing = SPACINGS_MM[patch]
    _, strides, kernels, patch_size, _ = get_pool_and_conv_props(spacing, patch, 4, 999999)
    stages = len(strides)
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [min(320, 32 * 2**stage) for stage in range(stages)],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": kernels,
            "strides": strides,
            "n_conv_per_stage": [2] * stages,
            "n_conv_per_stage_decoder": [2] * (stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [int(length) for length in patch_size],
        "median_image_size_in_voxels": [148.0, 512.0, 512.0],
        "spacing": list(spacing),
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": architecture,
        "batch_dice": True,
    }
    for what, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
        configuration[f"resampling_fn_{what}"] = _RESAMPLING
        configuration[f"resampling_fn_{what}_kwargs"] = {
            "is_seg": what == "seg",
            "order": order,
            "order_z": 0,
            "force_separate_z": None,
        }
    return {
        "dataset_name": "Dataset017_BTCV",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "NibabelIOWithReorient",
        "original_median_spacing_after_transp": list(spacing),
        "original_median_shape_after_transp": [148, 512, 512],
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": HU},
        "configurations": {"3d_fullres": configuration},
    }
