"""Model folders with nnU-Net's own network whose weights are set by hand, so that the right label map is known.

The network is linear: each logit is a straight line over the voxel's HU, and, on request, over the mean of the voxels
around it, which zero padding lowers near a window's edge.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet

from tests.inference.small_model import DATASET, plans, write_model

AROUND = 5
"""Voxels along each axis of the cube whose mean the network can see."""


def write_known_model(
    folder: Path, folds: Sequence[Sequence[tuple[float, float, float]]], *, dataset: dict = DATASET,
    mirror_axes: tuple[int, ...] | None = (0, 1, 2), scale: float = 1.0, **plan_changes: object,
) -> Path:  # fmt: skip
    """Write a model; HU are neither clipped nor shifted, only divided by 100.

    Args:
        folder: where to.
        folds: for each fold, for each output: weight of the voxel's HU / 100, of the mean around it, and a bias.
        dataset: content of ``dataset.json``.
        mirror_axes: see `write_model`.
        scale: factor of all logits.
        plan_changes: see `plans`.
    """
    plan = plans(**plan_changes)
    hu = {"mean": 0.0, "std": 100.0, "percentile_00_5": -3000.0, "percentile_99_5": 5000.0}
    plan["foreground_intensity_properties_per_channel"] = {"0": hu}
    arguments = plan["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    arguments.update(
        n_stages=2, features_per_stage=[2, 2], kernel_sizes=[[AROUND] * 3, [1] * 3], strides=[[1] * 3, [2] * 3],
        n_conv_per_stage=[1, 1], n_conv_per_stage_decoder=[1], norm_op=None, nonlin=None, nonlin_kwargs=None,
        norm_op_kwargs=None,
    )  # fmt: skip
    write_model(folder, plan, dataset, folds=len(folds), mirror_axes=mirror_axes)
    for number, lines in enumerate(folds):
        path = folder / f"fold_{number}" / "checkpoint_final.pth"
        checkpoint = torch.load(path, weights_only=False)
        checkpoint["network_weights"] = _weights(copy.deepcopy(arguments), lines, scale)
        torch.save(checkpoint, path)
    return folder


def _weights(arguments: dict, lines: Sequence[tuple[float, float, float]], scale: float) -> dict[str, torch.Tensor]:
    arguments["conv_op"] = torch.nn.Conv3d
    network = PlainConvUNet(1, num_classes=len(lines), deep_supervision=True, **arguments)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        first = network.encoder.stages[0][0].convs[0].conv.weight  # (2, 1, 5, 5, 5)
        first[0, 0, AROUND // 2, AROUND // 2, AROUND // 2] = 1
        first[1, 0] = 1 / AROUND**3
        last = network.decoder.stages[-1].convs[0].conv.weight  # (2, 4, 5, 5, 5): what came up, then the skip
        last[0, 2, AROUND // 2, AROUND // 2, AROUND // 2] = 1
        last[1, 3, AROUND // 2, AROUND // 2, AROUND // 2] = 1
        layer = network.decoder.seg_layers[-1]
        for output, (of_voxel, of_mean, bias) in enumerate(lines):
            layer.weight[output, :, 0, 0, 0] = scale * torch.tensor([of_voxel, of_mean])
            layer.bias[output] = scale * bias
    return network.state_dict()
