"""The plan that nnU-Net's own planner would make, and the cost of its training step, by which ours is measured.

Nothing is written, and its U-Net is built without weights (torch's meta device).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class NNUNetPlan:
    """The parts of a configuration in nnU-Net's plans that matter here.

    Attributes:
        patch_size: voxels per axis, in the order of the plans' axes.
        batch_size: patches.
        architecture: the network, as plans describe it.
        in_channels: image channels.
        out_channels: logits of the network.
    """

    patch_size: tuple[int, ...]
    batch_size: int
    architecture: Mapping[str, Any]
    in_channels: int
    out_channels: int

    @cached_property
    def flop(self) -> int:
        """Floating-point operations of a training step, forward and backward, a multiply-add counted as two."""
        with torch.device("meta"):
            network = get_network_from_plans(
                self.architecture["network_class_name"],
                self.architecture["arch_kwargs"],
                self.architecture["_kw_requires_import"],
                self.in_channels,
                self.out_channels,
                allow_init=False,
                deep_supervision=True,
            )
            images = torch.zeros(self.batch_size, self.in_channels, *self.patch_size)
            with FlopCounterMode(display=False) as counter:
                outputs: list[torch.Tensor] = network(images)
                torch.stack([scale.sum() for scale in outputs]).sum().backward()
        return int(counter.get_total_flops())


class NNUNetPlanner:
    """nnU-Net's default planner at its default memory target, for one configuration at a time.

    Args:
        dataset_name: of a data set that has a fingerprint.
        in_channels: image channels.
        out_channels: logits of the network.
    """

    def __init__(self, dataset_name: str, in_channels: int, out_channels: int) -> None:
        self.in_channels = in_channels
        self.out_channels = out_channels
        self._planner = ExperimentPlanner(dataset_name)
        self._estimates: dict[Any, Any] = {}  # nnU-Net's cache of its own memory estimates

    def plan(self, spacing_mm: Sequence[float], median_shape: Sequence[float], dataset_voxels: float) -> NNUNetPlan:
        """Return nnU-Net's plan for images of a spacing.

        Args:
            spacing_mm: target spacing per axis, in the order of the plans' axes.
            median_shape: voxels per axis of the median image at that spacing.
            dataset_voxels: voxels of all training images at that spacing.
        """
        with torch.device("meta"):
            configuration = self._planner.get_plans_for_configuration(
                spacing_mm, median_shape, "unnamed", dataset_voxels, self._estimates
            )
        return NNUNetPlan(
            tuple(int(axis) for axis in configuration["patch_size"]),
            int(configuration["batch_size"]),
            configuration["architecture"],
            self.in_channels,
            self.out_channels,
        )
