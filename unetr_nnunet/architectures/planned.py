"""How plans name a registered network: one builder for all, and in its ``arch_kwargs`` the architecture.

With the architecture stands the package that provided it. So a plans file can only choose among the architectures that
are installed.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

from unetr_nnunet.architectures.registry import find, version_note

PLANNED_NETWORK = "unetr_nnunet.architectures.planned.build_planned"
"""Class name under which plans name a registered network."""

PLANNED_NETWORKS = (PLANNED_NETWORK, "unetr_nnunet.architectures.build.build_unetr")
"""That name and the one before it, whose plans hold no architecture."""

_ORIGIN = ("architecture", "package", "version")


def architecture_entry(name: str, **fields: Any) -> dict[str, Any]:
    """Return the ``architecture`` entry of a configuration in plans.

    Args:
        name: of the architecture.
        fields: what the plans decide, see `Architecture.planned`.
    """
    one = find(name)
    origin = dict(zip(_ORIGIN, (one.name, one.distribution, one.version), strict=True))
    return {
        "network_class_name": PLANNED_NETWORK,
        "arch_kwargs": {**origin, **fields},
        "_kw_requires_import": [],
    }


def planned_fields(class_name: str, arch_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what plans decide about a registered network; nothing where they name another one.

    Args:
        class_name: ``network_class_name`` of the plans.
        arch_kwargs: of the plans, from JSON.
    """
    if class_name not in PLANNED_NETWORKS:
        return {}
    return {name: value for name, value in arch_kwargs.items() if name not in _ORIGIN}


def planned_version_note(
    class_name: str, arch_kwargs: Mapping[str, Any], architecture: str | None = None
) -> str | None:
    """Return one line if plans were made with another version of the architecture's package.

    Args:
        class_name: ``network_class_name`` of the plans.
        arch_kwargs: of the plans, from JSON.
        architecture: what is built; plans of another one say nothing about it. None for what they name.

    Raises:
        ValueError: if that package is not installed.
    """
    origin = [arch_kwargs.get(name) for name in _ORIGIN]
    if class_name not in PLANNED_NETWORKS or not all(isinstance(one, str) for one in origin):
        return None
    if architecture not in (None, origin[0]):
        return None
    return version_note(*(str(one) for one in origin))


def build_planned(**described: Any) -> NoReturn:
    """Refuse to build a network without a trainer of ours: nnU-Net's own do not say for which patch and spacing.

    Raises:
        ValueError: always.
    """
    name = described.get("architecture", "UNETR")
    raise ValueError(
        f"these plans are for {name}, which only our trainers can build, such as nnUNetTrainerUNETR or "
        "nnUNetTrainerNet_...: `unetr_nnunet plan` prints the name; for this trainer use nnU-Net's own plans"
    )
