"""Load a state dict of MONAI's UNETR (``monai.networks.nets.UNETR``, and that of research-contributions) into ours.

The key map, with N a block's number (MONAI -> ours):

==================================================  ======================================================
``vit.patch_embedding.position_embeddings``         ``transformer.positions``
``vit.patch_embedding.patch_embeddings[.1]``        ``stem.projection`` (axes reordered, see below)
``vit.blocks.N.norm1``, ``.norm2``                  ``transformer.blocks.N.norm1``, ``.norm2``
``vit.blocks.N.attn.qkv``, ``.attn.out_proj``       ``transformer.blocks.N.attention.qkv``, ``.attention.out``
``vit.blocks.N.mlp.linear1``, ``.linear2``          ``transformer.blocks.N.mlp.0``, ``.mlp.2``
``vit.norm``                                        ``transformer.norm``
``encoder1.layer``                                  ``stem.image_block``
``encoder2``, ``encoder3``, ``encoder4``            ``skips.chains.0``, ``.1``, ``.2``
``decoder2`` ... ``decoder5``                       ``decoder.upsamplings.0`` ... and ``decoder.blocks.0`` ...
``out.conv.conv``                                   ``decoder.seg_layers.0``
==================================================  ======================================================

Within a residual block ``conv1``, ``conv2``, ``conv3`` become ``conv1``, ``conv2``, ``shortcut``. The patch projection
of ``proj_type="conv"`` is flattened; that of ``"perceptron"`` has its inputs in the order (voxels, channel), which
becomes (channel, voxels). Tensors that MONAI's forward pass never uses are dropped: class token and ``conv3`` of blocks
whose channels do not change (0.6 to 0.8), cross-attention (1.4 and 1.5) and its norm (1.4 to 1.6), and what TorchScript
keeps of the attention's scratch space. The rest is the same in every version from 0.6.0 to 1.6.1. Such weights were
trained with taps after blocks 4, 7 and 10: build the network with ``taps="monai"``.
"""

import re
from collections.abc import Mapping

import torch

_UNUSED = re.compile(r"cls_token|cross_attn|\.att_mat$|\.causal_mask$")
_SHORTCUT = re.compile(r"\.conv3\.conv\.weight$")

_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^vit\.patch_embedding\.position_embeddings$", r"transformer.positions"),
        (r"^vit\.patch_embedding\.patch_embeddings(\.1)?\.", r"stem.projection."),
        (r"^vit\.blocks\.(\d+)\.attn\.qkv\.", r"transformer.blocks.\1.attention.qkv."),
        (r"^vit\.blocks\.(\d+)\.attn\.out_proj\.", r"transformer.blocks.\1.attention.out."),
        (r"^vit\.blocks\.(\d+)\.mlp\.linear1\.", r"transformer.blocks.\1.mlp.0."),
        (r"^vit\.blocks\.(\d+)\.mlp\.linear2\.", r"transformer.blocks.\1.mlp.2."),
        (r"^vit\.blocks\.(\d+)\.(norm[12])\.", r"transformer.blocks.\1.\2."),
        (r"^vit\.norm\.", r"transformer.norm."),
        (r"^encoder1\.layer\.(\w+)\.conv\.", r"stem.image_block.\1."),
        (r"^out\.conv\.conv\.", r"decoder.seg_layers.0."),
    )
)


def convert_monai_state_dict(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return MONAI's UNETR weights under our names.

    Args:
        state_dict: of a MONAI UNETR with instance norm, residual and convolutional blocks (its defaults).

    Returns:
        A state dict for a network from `unetr_nnunet.architectures.build.build_unetr` with 16-voxel tokens.

    Raises:
        ValueError: if a key is missing or not one of MONAI's UNETR, naming it.
    """
    first = "encoder1.layer.conv1.conv.weight"
    if first not in state_dict:
        raise ValueError(f"{first!r} is missing: this is no state dict of MONAI's UNETR with residual blocks")
    in_channels = state_dict[first].shape[1]
    converted = {}
    for key, tensor in used_tensors(state_dict).items():
        name = _our_name(key)
        if name == "stem.projection.weight":
            if tensor.dim() == 2:  # perceptron: (D, voxels * C) -> (D, C * voxels)
                tensor = tensor.unflatten(1, (-1, in_channels)).transpose(1, 2)
            tensor = tensor.flatten(1)
        converted[name] = tensor
    return converted


def used_tensors(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the entries of MONAI's state dict that its forward pass uses, under MONAI's names."""
    return {key: tensor for key, tensor in state_dict.items() if not _is_unused(key, tensor)}


def _is_unused(key: str, tensor: torch.Tensor) -> bool:
    same_channels = tensor.dim() > 1 and tensor.shape[0] == tensor.shape[1]
    return bool(_UNUSED.search(key)) or (same_channels and bool(_SHORTCUT.search(key)))


def _our_name(key: str) -> str:
    """Return our name of one of MONAI's parameters."""
    for pattern, replacement in _RULES:
        name, count = pattern.subn(replacement, key)
        if count:
            return name.replace(".conv3.", ".shortcut.")
    encoder = re.fullmatch(
        r"encoder([234])\.(?:transp_conv_init|blocks\.(\d+)\.([01])(?:\.(conv\d))?)\.conv\.weight", key
    )
    if encoder:
        chain, layer, part, conv = encoder.groups()
        position = 0 if layer is None else 1 + 2 * int(layer) + int(part)
        return f"skips.chains.{int(chain) - 2}.{position}." + (f"{conv}." if conv else "") + "weight"
    decoder = re.fullmatch(r"decoder([2345])\.(?:transp_conv|conv_block\.(conv\d))\.conv\.weight", key)
    if decoder:
        stage, conv = int(decoder.group(1)) - 2, decoder.group(2)
        name = f"decoder.blocks.{stage}.{conv}.weight" if conv else f"decoder.upsamplings.{stage}.weight"
        return name.replace(".conv3.", ".shortcut.")
    raise ValueError(
        f"{key!r} is no parameter of MONAI's UNETR with instance norm: is this state dict from another model?"
    )
