"""One training step as data: the network, nnU-Net's loss and a batch, for prediction and for measurement alike."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn

from unetr_nnunet.architectures.architecture import TOKEN_SIZE
from unetr_nnunet.architectures.checked_loss import CheckedLoss
from unetr_nnunet.architectures.networks import Network, network, patch_multiple
from unetr_nnunet.architectures.registry import load


@dataclass(frozen=True)
class TrainingStep:
    """What a training step computes.

    Attributes:
        architecture: name of a registered architecture.
        size: one of its sizes.
        patch_size: voxels per axis, (Z, Y, X) or (Y, X).
        batch_size: patches.
        spacing_mm: voxel spacing in mm, in the same order.
        token_size: voxels of one token per axis; empty where the architecture does not take it.
        in_channels: image channels.
        out_channels: logits, one for each label or region.
        regions: whether the outputs are overlapping regions, each with a sigmoid, instead of labels with a softmax.
        ignore_label: whether some voxels are left out of the loss.
    """

    architecture: str
    size: str
    patch_size: tuple[int, ...]
    batch_size: int
    spacing_mm: tuple[float, ...]
    token_size: tuple[int, ...]
    in_channels: int
    out_channels: int
    regions: bool = False
    ignore_label: bool = False

    @property
    def planned(self) -> dict[str, Any]:
        """What plans say about the network, beside its architecture."""
        return {TOKEN_SIZE: list(self.token_size)} if self.token_size else {}

    @property
    def grain(self) -> tuple[int, ...]:
        """Voxels per axis by which a patch grows: a token, or what the architecture wants a multiple of."""
        return self.token_size or patch_multiple(load(self.architecture), self.spacing_mm, self.architecture)

    @property
    def network(self) -> Network:
        """The network that the trainer will build."""
        return network(self.architecture, self.patch_size, self.spacing_mm, size=self.size, planned=self.planned)

    def build_network(self) -> nn.Module:
        """Return the network as the trainer builds it, on torch's default device."""
        return self.network.build(self.in_channels, self.out_channels, deep_supervision=True)

    def build_loss(self, *, compiled: bool = False) -> nn.Module:
        """Return nnU-Net's Dice and cross-entropy loss, as its trainer builds it for this kind of labels.

        Args:
            compiled: whether the Dice loss goes through ``torch.compile``, as in nnU-Net's trainer on CUDA.
        """
        options = {"batch_dice": False, "smooth": 1e-5, "do_bg": self.regions, "ddp": False}
        dice = MemoryEfficientSoftDiceLoss
        loss: nn.Module
        if self.regions:
            loss = DC_and_BCE_loss({}, options, use_ignore_label=self.ignore_label, dice_class=dice)
        else:
            ignored = self.out_channels if self.ignore_label else None  # the label after the last
            loss = DC_and_CE_loss(options, {}, ignore_label=ignored, dice_class=dice)
        if compiled:
            loss.get_submodule("dc").compile()
        scales = self.network.output_scales
        if scales is not None:
            weights = [0.5**scale for scale in range(len(scales))]
            loss = DeepSupervisionWrapper(loss, [*weights[:-1], 0.0])
        return CheckedLoss(loss, self.network, self.out_channels)

    def make_batch(self, device: torch.device) -> tuple[torch.Tensor, Any]:
        """Return images (B, C, *S) and targets (B, 1, *S), a list of them with deep supervision; all zero."""
        data = torch.zeros(self.batch_size, self.in_channels, *self.patch_size, device=device)
        channels = self.out_channels + self.ignore_label if self.regions else 1
        scales = self.network.output_scales
        targets = []
        for scale in scales or [[1.0] * len(self.patch_size)]:
            size = [round(axis * factor) for axis, factor in zip(self.patch_size, scale, strict=True)]
            targets.append(torch.zeros(self.batch_size, channels, *size, device=device, dtype=torch.int16))
        return data, targets[0] if scales is None else targets


def forward_and_loss(
    network: nn.Module, loss: nn.Module, data: torch.Tensor, target: Any, autocast_dtype: torch.dtype | None
) -> tuple[Any, torch.Tensor]:
    """Return the network's output, which the trainer holds until the step ends, and the loss.

    Args:
        network: the network.
        loss: takes float32 logits and the target.
        data: images (B, C, *S).
        target: see `TrainingStep.make_batch`.
        autocast_dtype: of the network's arithmetic; None for float32.
    """
    with autocast(data.device.type, autocast_dtype):
        output = network(data)
    several = isinstance(output, list | tuple)
    return output, loss([scale.float() for scale in output] if several else output.float(), target)


@contextmanager
def autocast(device_type: str, dtype: torch.dtype | None) -> Iterator[None]:
    """Switch autocast on, also for a device that this machine does not have, where ``torch.autocast`` does nothing."""
    if dtype is None:
        yield
        return
    before = torch.is_autocast_enabled(device_type), torch.get_autocast_dtype(device_type)
    torch.set_autocast_enabled(device_type, True)
    torch.set_autocast_dtype(device_type, dtype)
    try:
        yield
    finally:
        torch.set_autocast_enabled(device_type, before[0])
        torch.set_autocast_dtype(device_type, before[1])
        torch.clear_autocast_cache()
