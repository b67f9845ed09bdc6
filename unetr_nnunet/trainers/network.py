"""Build the network that a trainer's name describes; outside the trainer, so that a prediction imports none."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from unetr_nnunet.architectures.networks import Network, network
from unetr_nnunet.architectures.planned import planned_fields
from unetr_nnunet.trainers.names import TrainerName

if TYPE_CHECKING:
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager


def named_network(settings: TrainerName, configuration: "ConfigurationManager") -> Network:
    """Return the network that a trainer's name describes, for the patch size and spacing of the plans.

    Plans that name a registered network decide on token, taps and size by their ``arch_kwargs``.

    Args:
        settings: what the trainer's name describes.
        configuration: the configuration to build for.

    Raises:
        ValueError: if the architecture cannot be had, or does not take patch or plans.
    """
    planned: dict[str, Any] = {}
    if "architecture" in configuration.configuration:
        planned = planned_fields(configuration.network_arch_class_name, configuration.network_arch_init_kwargs)
    return network(
        settings.architecture,
        configuration.patch_size,
        configuration.spacing,
        size=settings.size,
        no_transformer=settings.blocks != "transformer",
        planned=planned,
    )


def build_named_network(
    settings: TrainerName,
    configuration: "ConfigurationManager",
    in_channels: int,
    out_channels: int,
    enable_deep_supervision: bool = True,
) -> nn.Module:
    """Build that network.

    Args:
        settings: what the trainer's name describes.
        configuration: the configuration to build for.
        in_channels: image channels.
        out_channels: classes with background, or regions.
        enable_deep_supervision: whether to return auxiliary outputs, where the architecture has any.

    Returns:
        A network from (B, C, Z, Y, X) images to (B, K, Z, Y, X) logits; without Z in a 2-D configuration.
    """
    return named_network(settings, configuration).build(
        in_channels, out_channels, deep_supervision=enable_deep_supervision
    )


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
            ValueError: if they are not what the architecture says.
        """
        several = isinstance(target, list)
        batch_size = (target[0] if several else target).shape[0]
        self.planned.check_output(output, batch_size, self.out_channels, deep_supervision=several)
        value: torch.Tensor = self.loss(output, target)
        return value
