"""Model folders of nnU-Net with small networks and random weights: their label maps are noise, so any slip shows."""

import json
from pathlib import Path
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from unetr_nnunet.trainers.factory import trainer_class

PATCH, SPACING = (16, 32, 32), (3.0, 1.5, 1.5)
DATASET = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "spleen": 1, "right_kidney": 2, "left_kidney": 3},
    "numTraining": 1,
    "file_ending": ".nii.gz",
}
REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}
HU = {
    "mean": 80.0, "std": 120.0, "percentile_00_5": -160.0, "percentile_99_5": 300.0,
    "min": -200.0, "max": 900.0, "median": 70.0,
}  # fmt: skip
RESIDUAL = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
PLAIN = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


def plans(patch=PATCH, spacing=SPACING, network_class=PLAIN, reader="NibabelIOWithReorient", **changes: Any) -> dict:
    """Return plans as nnU-Net's planner writes them."""
    axes = len(patch)
    convolution = f"torch.nn.modules.conv.Conv{axes}d"
    normalisation = f"torch.nn.modules.instancenorm.InstanceNorm{axes}d"
    blocks = "n_blocks_per_stage" if network_class == RESIDUAL else "n_conv_per_stage"
    kwargs = {
        "n_stages": 3, "features_per_stage": [4, 8, 8], "conv_op": convolution, "kernel_sizes": [[3] * axes] * 3,
        "strides": [[1] * axes, [2] * axes, [2] * axes], blocks: [1, 1, 1], "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True, "norm_op": normalisation, "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None, "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }  # fmt: skip
    resampling = "resample_data_or_seg_to_shape"
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": list(patch), "median_image_size_in_voxels": [40.0, 60.0, 60.0][-axes:], "spacing": list(spacing),
        "normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False],
        "resampling_fn_data": resampling, "resampling_fn_seg": resampling, "resampling_fn_probabilities": resampling,
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "architecture": {"network_class_name": network_class, "arch_kwargs": kwargs,
                         "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"]},
        "batch_dice": True,
    }  # fmt: skip
    top = {key: changes.pop(key) for key in list(changes) if key.startswith("transpose")}
    return {
        "dataset_name": "Dataset999_Toy", "plans_name": "nnUNetPlans", "image_reader_writer": reader,
        "original_median_spacing_after_transp": [3.0, 1.0, 1.0], "original_median_shape_after_transp": [40, 60, 60],
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager", "foreground_intensity_properties_per_channel": {"0": HU, "1": HU},
        "configurations": {"3d_fullres": configuration | changes}, **top,
    }  # fmt: skip


def write_model(
    folder: Path, plan: dict | None = None, dataset: dict | None = None, folds: int = 1, trainer: str = "nnUNetTrainer",
    mirror_axes: tuple[int, ...] | None = (0, 1, 2), seed: int = 0,
) -> Path:  # fmt: skip
    """Write a model folder whose networks have random weights; returns it."""
    plan, dataset = plan or plans(), dataset or DATASET
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plan), encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    architecture = plan["configurations"]["3d_fullres"]["architecture"]
    outputs = len(dataset["labels"]) - ("regions_class_order" in dataset)
    for fold in range(folds):
        torch.manual_seed(seed + fold)
        network = _build(architecture, len(dataset["channel_names"]), outputs)
        if trainer.startswith("nnUNetTrainerUNETR"):
            manager = PlansManager(plan)
            settings = manager.get_configuration("3d_fullres")
            network = trainer_class(trainer).build_network_architecture(manager, settings, 1, outputs, True)
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
            elif name.endswith("bias"):  # so that no label wins everywhere
                torch.nn.init.zeros_(parameter)
        checkpoint = {
            "network_weights": network.state_dict(), "trainer_name": trainer,
            "init_args": {"configuration": "3d_fullres", "fold": fold},
            "inference_allowed_mirroring_axes": mirror_axes,
        }  # fmt: skip
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def _build(architecture: dict, channels: int, outputs: int) -> torch.nn.Module:
    from pydoc import locate

    kwargs = dict(architecture["arch_kwargs"])
    for key in architecture["_kw_requires_import"]:
        kwargs[key] = locate(kwargs[key]) if kwargs[key] else None
    kind = ResidualEncoderUNet if architecture["network_class_name"] == RESIDUAL else PlainConvUNet
    return kind(channels, num_classes=outputs, deep_supervision=True, **kwargs)
