"""Trainers, batches and predicted memory of the networks that `benchmarks.gpu_steps` measures."""

import copy
import json
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812

from benchmarks.gpu_stage import CONFIGURATION, Patch, Stage

BATCH_SIZE = 2
LABEL_BLOCKS = 4
"""A batch's label map has this many blocks along each axis."""


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        network: "Modified", "original", "MONAI UNETR" or "nnU-Net default".
        patch: voxels and spacing.
        precision: "float16", "bfloat16" or "float32".
    """

    network: str
    patch: Patch
    precision: str


def make_trainer(case: Case, stage: Stage, device: torch.device, *, compiled: bool = False) -> Any:
    """Return a trainer, ready for its first step; the weights depend on the case alone.

    Args:
        case: what is trained.
        stage: of the run.
        device: where.
        compiled: as nnU-Net's trainer compiles network and loss on a GPU; on a CPU the network's graphs are captured.
    """
    os.environ["nnUNet_compile"] = "t" if compiled else "f"
    plans = json.loads((stage.preprocessed / "nnUNetPlans.json").read_text(encoding="utf-8"))
    dataset = json.loads((stage.preprocessed / "dataset.json").read_text(encoding="utf-8"))
    patch, spacing = case.patch
    changes = {"patch_size": list(patch), "spacing": list(spacing), "batch_size": BATCH_SIZE}
    plans["configurations"]["measured"] = {"inherits_from": CONFIGURATION, **changes}
    if case.network == "nnU-Net default":
        architecture = plans["configurations"]["3d_fullres"]["architecture"]
        plans["configurations"]["measured"]["architecture"] = planned_by_nnunet(architecture, case.patch)
    plans["continue_training"] = False
    torch.manual_seed(0)
    trainer = _trainer_class(case, stage)(plans, "measured", 0, dataset, device)
    trainer.initialize()
    if compiled and device.type == "cpu":
        trainer.network = torch.compile(trainer.network, backend="eager")
    trainer.network.train()
    _switch_drop_path_off(trainer.network)
    return trainer


def _trainer_class(case: Case, stage: Stage) -> type[Any]:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from unetr_nnunet.trainers.factory import trainer_class
    from unetr_nnunet.trainers.names import TrainerName

    if case.network == "nnU-Net default":
        return nnUNetTrainer
    size = stage.sizes.network
    if case.network != "MONAI UNETR":
        return trainer_class(str(TrainerName(architecture=case.network, size=size)))
    from monai.networks.nets import UNETR as MonaiUNETR  # noqa: N811

    class MonaiTrainer(trainer_class("nnUNetTrainerUNETR")):  # type: ignore[misc]
        @classmethod
        def build_network_architecture(
            cls,
            plans_manager: Any,
            configuration_manager: Any,
            num_input_channels: int,
            num_output_channels: int,
            enable_deep_supervision: bool = True,
        ) -> Any:
            small = {} if size == "base" else {"hidden_size": 192, "mlp_dim": 384, "num_heads": 3, "feature_size": 8}
            return MonaiUNETR(num_input_channels, num_output_channels, configuration_manager.patch_size, **small)

    return MonaiTrainer


def planned_by_nnunet(architecture: dict[str, Any], patch: Patch) -> dict[str, Any]:
    """Return an architecture of nnU-Net's plans with the stages, strides and kernels that it plans for a patch."""
    from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

    _, strides, kernels, _, _ = get_pool_and_conv_props(patch[1], patch[0], 4, 999999)
    stages = len(strides)
    planned = copy.deepcopy(architecture)
    planned["arch_kwargs"] |= {
        "n_stages": stages,
        "features_per_stage": [min(320, 32 * 2**stage) for stage in range(stages)],
        "kernel_sizes": [list(kernel) for kernel in kernels],
        "strides": [list(stride) for stride in strides],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }
    return planned


def _switch_drop_path_off(network: torch.nn.Module) -> None:
    from dynamic_network_architectures.building_blocks.regularization import DropPath

    for module in network.modules():
        if isinstance(module, DropPath):
            module.eval()


def make_batch(case: Case, trainer: Any) -> dict[str, Any]:
    """Return noise with a label map of blocks, the same for each device, as nnU-Net's data loader would."""
    patch = case.patch[0]
    random = torch.Generator().manual_seed(1)
    classes = trainer.label_manager.num_segmentation_heads
    blocks = torch.randint(0, classes, (BATCH_SIZE, 1, *[LABEL_BLOCKS] * len(patch)), generator=random).float()
    data = torch.randn(BATCH_SIZE, 1, *patch, generator=random)
    data += F.interpolate(blocks, patch) / classes  # so that there is something to learn
    scales = trainer._get_deep_supervision_scales() if trainer.enable_deep_supervision else [[1.0] * len(patch)]
    target = [
        F.interpolate(blocks, [round(length * part) for length, part in zip(patch, scale, strict=True)]).short()
        for scale in scales
    ]
    if trainer.device.type == "cuda":  # as nnU-Net's data loader does
        data, target = data.pin_memory(), [scale.pin_memory() for scale in target]
    return {"data": data, "target": target if trainer.enable_deep_supervision else target[0]}


def predicted_bytes(case: Case, stage: Stage) -> tuple[int, float]:
    """Return the peak that ``unetr_nnunet plan`` predicts for a step of one of our networks on a GPU.

    Returns:
        The peak, and what the GPU should have for it.
    """
    from unetr_nnunet.architectures.build import resolve_token_size
    from unetr_nnunet.planning.memory import predict_memory, with_reserve
    from unetr_nnunet.planning.training_step import TrainingStep

    patch, spacing = case.patch
    token = resolve_token_size(case.network, patch, spacing, None)
    step = TrainingStep(case.network, stage.sizes.network, patch, BATCH_SIZE, spacing, token, 1, 14)
    dtype = torch.bfloat16 if case.precision == "bfloat16" else torch.float16
    peak = predict_memory(step, "cuda", dtype).peak
    return peak, with_reserve(peak)
