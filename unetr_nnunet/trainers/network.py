"""Build the network that a trainer's name describes; outside the trainer, so that a prediction imports none."""

from typing import TYPE_CHECKING, Any

from torch import nn

from unetr_nnunet.architectures.networks import Network
from unetr_nnunet.architectures.networks import network as registered_network
from unetr_nnunet.architectures.planned import planned_fields, planned_version_note
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
    return registered_network(
        settings.architecture,
        configuration.patch_size,
        configuration.spacing,
        size=settings.size,
        no_transformer=settings.blocks != "transformer",
        planned=planned,
    )


def origin(network: Network, configuration: "ConfigurationManager") -> str:
    """Return where the network comes from, and whether its package has changed since the plans were made."""
    planned = configuration.network_arch_class_name, configuration.network_arch_init_kwargs
    note = planned_version_note(*planned, network.architecture.name)
    return f"{network}; {note}" if note else str(network)


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
