"""UNETR and its modifications as they are registered: one `Architecture` each, made from `presets`. No torch."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from unetr_nnunet.architectures.architecture import TOKEN_SIZE, Architecture
from unetr_nnunet.architectures.presets import ARCHITECTURES, LEARNING_RATES, TRANSFORMER_RATES
from unetr_nnunet.architectures.token_geometry import TOKEN_LENGTHS, derive_token_size, stage_scales, stage_strides

if TYPE_CHECKING:
    from unetr_nnunet.architectures.unetr import UNETR

REFERENCE = 'Hatamizadeh et al., "UNETR: Transformers for 3D Medical Image Segmentation", WACV 2022'


_TRANSFORMER = ("transformer.", "stem.voxel_norm.", "stem.projection", "stem.to_tokens.", "stem.token_norm.")


def _build(
    architecture: str,
    *,
    in_channels: int,
    out_channels: int,
    patch_size: Sequence[int],
    spacing_mm: Sequence[float],
    token_size: Sequence[int] | None = None,
    taps: str = "paper",
    transformer_blocks: bool = True,
    **size: Any,
) -> "UNETR":
    from unetr_nnunet.architectures.build import build_unetr, size_of

    return build_unetr(
        patch_size,
        spacing_mm,
        in_channels,
        out_channels,
        architecture=architecture,
        transformer_blocks=transformer_blocks,
        size=size_of(size),
        token_size=token_size,
        taps=taps,
    )


def _output_scales(
    architecture: str,
    *,
    patch_size: Sequence[int],
    spacing_mm: Sequence[float],
    token_size: Sequence[int] | None = None,
    **fields: Any,
) -> Sequence[Sequence[float]]:
    from unetr_nnunet.architectures.build import resolve_token_size

    token_size = resolve_token_size(architecture, tuple(patch_size), spacing_mm, token_size)
    return stage_scales(stage_strides(token_size))


def _patch_multiple(spacing_mm: Sequence[float]) -> tuple[int, ...]:
    return derive_token_size([TOKEN_LENGTHS[-1]] * len(spacing_mm), spacing_mm)


ALL = SimpleNamespace(
    **{
        name: Architecture(
            name=name,
            build=partial(_build, name),
            patch_multiple=_patch_multiple,
            sizes={size: asdict(fields) for size, fields in variant.sizes.items()},
            reference=REFERENCE,
            summary=variant.summary,
            output_scales=partial(_output_scales, name) if "FPN" in variant.parts else None,
            no_transformer={"transformer_blocks": False},
            planned=(TOKEN_SIZE, "taps", "size"),
            learning_rates=LEARNING_RATES,
            transformer_parameters=_TRANSFORMER,
            transformer_rates=TRANSFORMER_RATES,
        )
        for name, variant in ARCHITECTURES.items()
    }
)
"""The variants, by name."""
