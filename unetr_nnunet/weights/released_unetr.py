"""Recognise the weights of MONAI's UNETR and read the network's sizes from them.

The layer layout is that of ``monai.networks.nets.UNETR`` 0.6.0 to 1.6.1 with residual and convolutional blocks, as the
UNETR authors released it (https://github.com/Project-MONAI/research-contributions/tree/main/UNETR/BTCV).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch

from unetr_nnunet.architectures.monai_weights import convert_monai_state_dict, used_tensors
from unetr_nnunet.architectures.presets import SIZES, UNETRSize
from unetr_nnunet.weights.checkpoint_file import few

LAYERS = 12
TOKEN_LENGTH = 16
PAPER_WIDTH, PAPER_HEADS = 768, 12

_SIZES_FROM = {
    "in_channels": ("encoder1.layer.conv1.conv.weight", 1),
    "feature_size": ("encoder1.layer.conv1.conv.weight", 0),
    "out_channels": ("out.conv.conv.weight", 0),
    "width": ("vit.norm.weight", 0),
    "mlp_width": ("vit.blocks.0.mlp.linear1.weight", 0),
    "tokens": ("vit.patch_embedding.position_embeddings", 1),
}
_PROJECTIONS = {
    "conv": "vit.patch_embedding.patch_embeddings.",
    "perceptron": "vit.patch_embedding.patch_embeddings.1.",
}


@dataclass(frozen=True)
class ReleasedUNETR:
    """A UNETR read from a checkpoint.

    Attributes:
        weights: under our names, for a network with 16 x 16 x 16 voxel tokens in the axis order of `grid`.
        in_channels: image channels.
        out_channels: logits.
        size: of the network; the figures of parts that it does not have are those of "base".
        grid: tokens per axis, in MONAI's order (x, y, z).
    """

    weights: dict[str, torch.Tensor]
    in_channels: int
    out_channels: int
    size: UNETRSize
    grid: tuple[int, int, int]


def recognise(
    state_dict: Mapping[str, torch.Tensor],
    source: str,
    *,
    heads: int | None = None,
    window: Sequence[int] | None = None,
) -> ReleasedUNETR:
    """Return the UNETR that a state dict of MONAI's holds.

    Args:
        state_dict: under MONAI's names.
        source: where it comes from, for messages.
        heads: attention heads, which the weights do not show; None for the paper's 12, where the width is its 768.
        window: the model's ``img_size`` (x, y, z) in voxels, of which the weights show the number of tokens only; None
            for a cube.

    Raises:
        ValueError: if tensors are missing, unknown or of another shape than UNETR's, or not finite, naming them; or if
            ``heads`` or ``window`` is needed or does not fit.
    """
    tensors = used_tensors(state_dict)
    sizes = _read_sizes(tensors)
    kind = "perceptron" if _PROJECTIONS["perceptron"] + "weight" in tensors else "conv"
    expected = expected_shapes(**sizes, projection=kind)
    _check_tensors(tensors, expected, source)
    size = replace(
        SIZES["base"],
        width=sizes["width"],
        layers=LAYERS,
        heads=_check_heads(heads, sizes["width"], source),
        mlp_width=sizes["mlp_width"],
        feature_size=sizes["feature_size"],
    )
    grid = _check_grid(sizes["tokens"], window, source)
    return ReleasedUNETR(convert_monai_state_dict(tensors), sizes["in_channels"], sizes["out_channels"], size, grid)


def expected_shapes(
    *,
    in_channels: int,
    out_channels: int,
    feature_size: int,
    width: int,
    mlp_width: int,
    tokens: int,
    projection: str,
) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor that MONAI's UNETR uses.

    Args:
        in_channels: image channels.
        out_channels: logits.
        feature_size: channels at full resolution.
        width: channels of a token.
        mlp_width: hidden channels of the transformer's perceptron.
        tokens: number of tokens.
        projection: "conv" or "perceptron", MONAI's ``proj_type``.
    """
    voxels = (TOKEN_LENGTH,) * 3
    patches = _PROJECTIONS[projection]
    shapes: dict[str, tuple[int, ...]] = {
        "vit.patch_embedding.position_embeddings": (1, tokens, width),
        f"{patches}weight": (width, in_channels, *voxels)
        if projection == "conv"
        else (width, in_channels * prod(voxels)),
        f"{patches}bias": (width,),
        "out.conv.conv.weight": (out_channels, feature_size, 1, 1, 1),
        "out.conv.conv.bias": (out_channels,),
        **_norm("vit.norm", width),
        **_block("encoder1.layer", in_channels, feature_size),
    }
    for layer in range(LAYERS):
        block = f"vit.blocks.{layer}"
        shapes |= _norm(f"{block}.norm1", width) | _norm(f"{block}.norm2", width)
        shapes[f"{block}.attn.qkv.weight"] = (3 * width, width)
        shapes |= _linear(f"{block}.attn.out_proj", width, width)
        shapes |= _linear(f"{block}.mlp.linear1", width, mlp_width) | _linear(f"{block}.mlp.linear2", mlp_width, width)
    channels = [feature_size * 2**scale for scale in range(4)] + [width]
    for scale in range(4):
        stage, c = scale + 2, channels[scale]
        shapes[f"decoder{stage}.transp_conv.conv.weight"] = (channels[scale + 1], c, 2, 2, 2)
        shapes |= _block(f"decoder{stage}.conv_block", 2 * c, c)
    for scale in range(1, 4):
        encoder, c = f"encoder{scale + 1}", channels[scale]
        shapes[f"{encoder}.transp_conv_init.conv.weight"] = (width, c, 2, 2, 2)
        for step in range(3 - scale):
            shapes[f"{encoder}.blocks.{step}.0.conv.weight"] = (c, c, 2, 2, 2)
            shapes |= _block(f"{encoder}.blocks.{step}.1", c, c)
    return shapes


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _block(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    convolutions: dict[str, tuple[int, ...]] = {
        f"{name}.conv1.conv.weight": (outputs, inputs, 3, 3, 3),
        f"{name}.conv2.conv.weight": (outputs, outputs, 3, 3, 3),
    }
    if inputs != outputs:
        convolutions[f"{name}.conv3.conv.weight"] = (outputs, inputs, 1, 1, 1)
    return convolutions


def _read_sizes(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Return each size from the tensor axis that has it; 0 if the tensor is missing, which fits nothing."""
    sizes = {}
    for size, (name, axis) in _SIZES_FROM.items():
        shape = tensors[name].shape if name in tensors else ()
        sizes[size] = shape[axis] if axis < len(shape) else 0
    return sizes


def _check_tensors(tensors: Mapping[str, torch.Tensor], expected: Mapping[str, tuple[int, ...]], source: str) -> None:
    missing = [name for name in expected if name not in tensors]
    extra = [name for name in tensors if name not in expected]
    shapes = [
        f"{name} {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape and not missing
    ]
    differences = [
        f"{len(names)} {what}: {few(names)}"
        for what, names in (("missing", missing), ("unknown", extra), ("of another shape", shapes))
        if names
    ]
    if differences:
        raise ValueError(
            f"{source} holds no UNETR that can be imported; of its tensors {'; '.join(differences)}. It must be "
            "MONAI's 3-D UNETR with res_block=True, conv_block=True, qkv_bias=False and instance norm without weights"
        )
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ValueError(f"{source} holds NaN or infinite weights in {few(broken)}: take another checkpoint")


def _check_heads(heads: int | None, width: int, source: str) -> int:
    if heads is None:
        if width != PAPER_WIDTH:
            raise ValueError(
                f"{source} has tokens of {width} channels, and weights do not show the number of attention heads: give "
                f"the model's num_heads with --heads (MONAI's default is {PAPER_HEADS})"
            )
        return PAPER_HEADS
    if heads < 1 or width % heads:
        raise ValueError(f"--heads {heads} does not divide the {width} channels of a token in {source}")
    return heads


def _check_grid(tokens: int, window: Sequence[int] | None, source: str) -> tuple[int, int, int]:
    if window is None:
        side = round(tokens ** (1 / 3))
        if side**3 != tokens:
            raise ValueError(
                f"{source} has {tokens} tokens, which do not fill a cube: give the model's img_size with --window X Y Z"
            )
        return side, side, side
    x, y, z = (length // TOKEN_LENGTH for length in window)
    if any(length < 1 or length % TOKEN_LENGTH for length in window) or x * y * z != tokens:
        raise ValueError(
            f"--window {' '.join(map(str, window))} does not fit {source}: it must be filled by {tokens} tokens of "
            f"{TOKEN_LENGTH} voxels along each axis"
        )
    return x, y, z
