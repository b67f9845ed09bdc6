"""Checkpoints with the entries and types that nnU-Net's trainer writes, of networks that nnU-Net builds."""

import json
from pathlib import Path
from time import time
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from tests.inference.small_model import DATASET


def build(trainer: Any, plan: dict[str, Any], dataset: dict[str, Any] = DATASET) -> nn.Module:
    """Return the network that a trainer class builds, with weights that tell each tensor from the next."""
    plans = PlansManager(plan)
    labels = plans.get_label_manager(dataset)
    channels, outputs = len(dataset["channel_names"]), labels.num_segmentation_heads
    network = trainer.build_network_architecture(
        plans, plans.get_configuration("3d_fullres"), channels, outputs, enable_deep_supervision=True
    )
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


def content(network: nn.Module, plan: dict[str, Any], trainer: str = "nnUNetTrainer", fold: int = 0) -> dict[str, Any]:
    """Return what `nnUNetTrainer.save_checkpoint` saves after two epochs."""
    optimizer = torch.optim.SGD(network.parameters(), 1e-2, momentum=0.99, nesterov=True)
    sum(parameter.sum() for parameter in network.parameters()).backward()
    optimizer.step()
    losses = [np.mean([np.asarray(value, np.float32)]) for value in (0.5, 0.25)]
    dice = [[np.float64(0.1), np.float64(np.nan), 0.3]] * 2
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "grad_scaler_state": torch.amp.GradScaler(enabled=False).state_dict(),
        "logging": {
            "mean_fg_dice": [np.nanmean(each) for each in dice],
            "ema_fg_dice": [np.nanmean(each) for each in dice],
            "dice_per_class_or_region": dice,
            "train_losses": losses,
            "val_losses": losses,
            "lrs": [1e-2, 9e-3],
            "epoch_start_timestamps": [time()] * 2,
            "epoch_end_timestamps": [time()] * 2,
        },
        "_best_ema": np.float64(0.2),
        "current_epoch": 2,
        "init_args": {
            "plans": plan,
            "configuration": "3d_fullres",
            "fold": fold,
            "dataset_json": DATASET,
            "device": torch.device("cuda", 0),
        },
        "trainer_name": trainer,
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }


def write_folder(
    folder: Path, plan: dict[str, Any], checkpoints: dict[str, dict[str, Any]], dataset: dict[str, Any] = DATASET
) -> Path:
    """Write a model folder with a checkpoint for each path such as "fold_0/checkpoint_final.pth"; returns it."""
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plan), encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    for path, checkpoint in checkpoints.items():
        (folder / path).parent.mkdir(exist_ok=True)
        torch.save(checkpoint, folder / path)
    return folder
