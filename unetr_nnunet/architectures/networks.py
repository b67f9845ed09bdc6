"""Build a registered network for a patch and a spacing, and hold it to what its `Architecture` says."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import torch
from torch import nn

from unetr_nnunet.architectures.architecture import Architecture
from unetr_nnunet.architectures.registry import find, load
from unetr_nnunet.architectures.token_geometry import nearest_patch_sizes

Scales = tuple[tuple[float, ...], ...]


class WrongOutputError(ValueError):
    """A network returns something else than its architecture says."""


@dataclass(frozen=True)
class Network:
    """A network that can be built: an architecture, and for what.

    Attributes:
        architecture: what is built.
        patch_size: voxels per axis, (Z, Y, X) or (Y, X).
        spacing_mm: in the same order.
        fields: keyword arguments of the builder: the size's, and what plans and trainer's name say.
        label: the architecture and where it comes from, for messages.
    """

    architecture: Architecture
    patch_size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    def __post_init__(self) -> None:
        if len(self.patch_size) not in self.architecture.dimensions:
            allowed = " and ".join(f"{count}-D" for count in self.architecture.dimensions)
            raise ValueError(
                f"{self} takes {allowed} patches, and this one is {len(self.patch_size)}-D: choose another "
                "configuration (-c) or another architecture"
            )
        if not self.architecture.has_tokens:
            self._check_patch()

    def __str__(self) -> str:
        return self.label or self.architecture.name

    def _check_patch(self) -> None:
        multiple = patch_multiple(self.architecture, self.spacing_mm, str(self))
        nearest = dict.fromkeys(nearest_patch_sizes(self.patch_size, multiple))  # smaller and larger, or one
        if self.patch_size not in nearest:
            raise ValueError(
                f"{self}: patch {_by(self.patch_size)} is no multiple of {_by(multiple)}: plan with `unetr_nnunet plan "
                f"--architecture {self.architecture.name}`, or take a patch such as {' or '.join(map(_by, nearest))}"
            )

    @functools.cached_property
    def output_scales(self) -> Scales | None:
        """Size of each output relative to the patch, highest resolution first; None if there is one output.

        Raises:
            ValueError: if the architecture gives scales that cannot be.
        """
        if self.architecture.output_scales is None:
            return None
        given = _asked(
            self.architecture.output_scales,
            f"{self}: its output_scales",
            patch_size=self.patch_size,
            spacing_mm=self.spacing_mm,
            **self._fields_of_scales(),
        )
        try:
            scales = tuple(tuple(float(part) for part in scale) for scale in given or ())
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{self}: its output_scales give {given!r}, where a list of numbers for each output is needed"
            ) from error
        if len(scales) < 2:
            return None
        previous = (1.0,) * len(self.patch_size)
        for place, scale in enumerate(scales):
            sizes = [axis * part for axis, part in zip(self.patch_size, scale, strict=False)]
            fits = len(scale) == len(self.patch_size) and all(abs(size - round(size)) < 1e-3 for size in sizes)
            finer = any(part > before for part, before in zip(scale, previous, strict=False))
            if not fits or min(sizes) < 0.5 or finer or (place == 0 and scale != previous):
                raise ValueError(
                    f"{self} gives deep-supervision scales that do not fit patch {_by(self.patch_size)}: "
                    f"{[list(one) for one in scales]}; they begin with 1 for each axis, never grow, and give whole "
                    "voxels"
                )
            previous = scale
        return scales

    def _fields_of_scales(self) -> dict[str, Any]:
        return {name: value for name, value in self.fields.items() if name not in self.architecture.no_transformer}

    def build(self, in_channels: int, out_channels: int, *, deep_supervision: bool = False) -> nn.Module:
        """Return the network, on torch's default device.

        Args:
            in_channels: image channels.
            out_channels: logits: classes with background, or regions.
            deep_supervision: whether it returns a list of logits, where it has several outputs.

        Raises:
            ValueError: if the builder raises or returns no network, or one whose outputs cannot be switched.
        """
        try:
            network = self.architecture.build(
                in_channels=in_channels,
                out_channels=out_channels,
                patch_size=self.patch_size,
                spacing_mm=self.spacing_mm,
                **self.fields,
            )
        except Exception as error:  # whatever a foreign builder raises
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise ValueError(
                f"{self} cannot be built for patch {_by(self.patch_size)} and {in_channels} channels: {kind}{error}"
            ) from error
        if not isinstance(network, nn.Module):
            raise ValueError(f"{self}: its builder returns a {type(network).__name__}, no torch.nn.Module")
        if self.output_scales is not None:
            set_deep_supervision(network, deep_supervision, str(self))
        return network

    def check_output(self, output: Any, batch_size: int, out_channels: int, *, deep_supervision: bool) -> None:
        """Compare what the network returns with what its architecture says.

        Raises:
            WrongOutputError: if number or shape of the outputs differ.
        """
        scales = self.output_scales if deep_supervision else None
        one = scales is None
        expected = [
            (batch_size, out_channels, *(round(axis * part) for axis, part in zip(self.patch_size, scale, strict=True)))
            for scale in scales or ((1.0,) * len(self.patch_size),)
        ]
        outputs = [output] if one else output
        if not isinstance(outputs, list | tuple) or not all(isinstance(each, torch.Tensor) for each in outputs):
            found: Any = f"a {type(output).__name__}"
        else:
            found = [tuple(each.shape) for each in outputs]
        if found != expected:
            shown = found[0] if one and isinstance(found, list) else found
            raise WrongOutputError(
                f"{self} returns {shown} for a patch of {_by(self.patch_size)}, where its architecture says "
                f"{expected[0] if one else expected}: correct the network, or its patch_multiple or output_scales"
            )


def network(
    name: str,
    patch_size: Sequence[int],
    spacing_mm: Sequence[float],
    *,
    size: str = "",
    no_transformer: bool = False,
    planned: Mapping[str, Any] | None = None,
) -> Network:
    """Return a network of a registered architecture.

    Args:
        name: of the architecture.
        patch_size: voxels per axis.
        spacing_mm: in the same order.
        size: one of its sizes; empty for the default.
        no_transformer: whether the identity is in place of every transformer block.
        planned: see `unetr_nnunet.architectures.planned.planned_fields`; its ``size`` comes first.

    Raises:
        ValueError: if there is no such architecture, size or control, or it does not take what is planned.
    """
    architecture = load(name)
    fields = dict(planned or {})
    chosen = fields.pop("size", size or architecture.default_size)
    if not isinstance(chosen, str | Mapping):
        raise ValueError(f"the plans' size is {chosen!r}, no name and no fields: plan again")
    unknown = sorted(set(fields) - set(architecture.planned))
    if not isinstance(chosen, str) and "size" not in architecture.planned:
        unknown.append("size")
    if unknown:
        raise ValueError(
            f"the plans hold {' and '.join(unknown)}, which {find(name)} does not take: plan with `unetr_nnunet plan "
            f"--architecture {architecture.name}`"
        )
    if isinstance(chosen, str):
        if chosen not in architecture.sizes:
            raise ValueError(f"{find(name)} has no size {chosen!r}: choose one of {', '.join(architecture.sizes)}")
        chosen = architecture.sizes[chosen]
    if no_transformer:
        if not architecture.no_transformer:
            raise ValueError(f"{find(name)} has no control without its transformer: leave NoTransformer out")
        fields |= architecture.no_transformer
    return Network(
        architecture,
        tuple(int(axis) for axis in patch_size),
        tuple(float(axis) for axis in spacing_mm),
        {**dict(chosen), **fields},
        str(find(name)),
    )


def patch_multiple(architecture: Architecture, spacing_mm: Sequence[float], label: str = "") -> tuple[int, ...]:
    """Return the voxels per axis of which a patch must be a multiple.

    Raises:
        ValueError: if the architecture gives no positive whole number for each axis.
    """
    who = label or architecture.name
    given = _asked(architecture.patch_multiple, f"{who}: its patch_multiple", tuple(float(axis) for axis in spacing_mm))
    multiple = tuple(given) if isinstance(given, list | tuple) else (given,)
    if len(multiple) != len(spacing_mm) or not all(isinstance(step, Integral) and int(step) > 0 for step in multiple):
        raise ValueError(
            f"{who}: its patch_multiple gives {given!r} for spacing {tuple(spacing_mm)} mm; it must give a positive "
            "whole number for each axis"
        )
    return tuple(int(step) for step in multiple)


def _asked(function: Callable[..., Any], what: str, *values: Any, **fields: Any) -> Any:
    """Call a function of an architecture; whatever it raises becomes a ValueError that names it."""
    try:
        return function(*values, **fields)
    except Exception as error:  # whatever a foreign function raises
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{what} cannot be had ({kind}{error})") from error


def set_deep_supervision(network: nn.Module, enabled: bool, label: str = "") -> None:
    """Switch a network between a list of logits and the first of them.

    Raises:
        ValueError: if neither the network nor its decoder has an attribute ``deep_supervision``.
    """
    for owner in (network, getattr(network, "decoder", None)):
        if hasattr(owner, "deep_supervision"):
            owner.deep_supervision = enabled  # type: ignore[union-attr]
            return
    raise ValueError(
        f"{label or type(network).__name__} has several output_scales, but neither the network nor its decoder has an "
        "attribute deep_supervision that switches them off"
    )


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)
