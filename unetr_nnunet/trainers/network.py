"""Build the network that a trainer's name describes; outside the trainer, so that a prediction imports none."""

from typing import TYPE_CHECKING, Any

from torch import nn

from unetr_nnunet.architectures.build import PLANNED_NETWORK, build_unetr, planned_arguments
from unetr_nnunet.trainers.names import TrainerName

if TYPE_CHECKING:
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager


def build_named_network(
    settings: TrainerName,
    configuration: "ConfigurationManager",
    in_channels: int,
    out_channels: int,
    enable_deep_supervision: bool = True,
) -> nn.Module:
    """Build a network for the patch size and spacing of the plans.

    Plans that name our network decide on token, taps and size by their ``arch_kwargs``.

    Args:
        settings: what the trainer's name describes.
        configuration: the configuration to build for.
        in_channels: image channels.
        out_channels: classes with background, or regions.
        enable_deep_supervision: whether to return auxiliary outputs, where the architecture has any.

    Returns:
        A network from (B, C, Z, Y, X) images to (B, K, Z, Y, X) logits; without Z in a 2-D configuration.
    """
    planned: dict[str, Any] = {}
    if configuration.network_arch_class_name == PLANNED_NETWORK:
        planned = planned_arguments(configuration.network_arch_init_kwargs)
    network = build_unetr(
        configuration.patch_size,
        configuration.spacing,
        in_channels,
        out_channels,
        architecture=settings.architecture,
        transformer_blocks=settings.blocks == "transformer",
        **({"size": settings.size} | planned),
    )
    network.decoder.deep_supervision = enable_deep_supervision
    return network
