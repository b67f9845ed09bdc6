"""`CheckedLoss`: a loss that compares a network's outputs with what its architecture says before it uses them."""

from typing import Any

import torch
from torch import nn

from unetr_nnunet.architectures.networks import Network


class CheckedLoss(nn.Module):
    """A loss that refuses logits whose number or shapes are not what the architecture says.

    Args:
        loss: takes logits and targets, lists of them with deep supervision.
        planned: the network.
        out_channels: classes with background, or regions.
    """

    def __init__(self, loss: nn.Module, planned: Network, out_channels: int) -> None:
        super().__init__()
        self.loss = loss
        self.planned = planned
        self.out_channels = out_channels

    def forward(self, output: Any, target: Any) -> torch.Tensor:
        """Return the loss of logits (B, K, *S), or of a list of them.

        Raises:
            WrongOutputError: if they are not what the architecture says.
        """
        several = isinstance(target, list)
        batch_size = (target[0] if several else target).shape[0]
        self.planned.check_output(output, batch_size, self.out_channels, deep_supervision=several)
        value: torch.Tensor = self.loss(output, target)
        return value
