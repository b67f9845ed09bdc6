"""A small MONAI UNETR with random weights, in the state dict layouts of MONAI's versions."""

import json
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import UNETR

WINDOW = (32, 48, 64)
"""img_size (x, y, z); its sides differ, so that exchanged axes show."""
HEADS = 4
LAYOUTS = json.loads((Path(__file__).parent / "data" / "monai_unetr_layouts.json").read_text(encoding="utf-8"))
LAYOUT_NAMES = [f"{layout['versions'][0]}-{layout['proj_type']}" for layout in LAYOUTS["layouts"]]


def tensors_of_layout(name: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor at the paper's size."""
    own = LAYOUTS["layouts"][LAYOUT_NAMES.index(name)]["own"]
    return {key: tuple(shape) for key, shape in {**LAYOUTS["common"], **own}.items()}


def make_unetr(window: tuple[int, ...] = WINDOW, out_channels: int = 14, seed: int = 0, **changes: Any) -> UNETR:
    """Every tensor is drawn from a wide distribution, so that none can be exchanged or left out unnoticed."""
    torch.manual_seed(seed)
    sizes = {"feature_size": 4, "hidden_size": 48, "mlp_dim": 64, "num_heads": HEADS, "in_channels": 1} | changes
    network = UNETR(img_size=window, out_channels=out_channels, **sizes).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("out."):  # no label shall prevail
                parameter.normal_(std=1.0 if parameter.dim() > 1 else 0.05)
            elif parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.3)
            elif "position" in name:
                parameter.normal_()
    return network


def in_layout(state_dict: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """The weights of a UNETR with proj_type="conv" under the names of a layout, with its unused tensors."""
    patches = "vit.patch_embedding.patch_embeddings."
    weights = dict(state_dict)
    kernel = weights[f"{patches}weight"]  # (D, C, x, y, z)
    weights[f"{patches}1.weight"] = kernel.movedim(1, -1).flatten(1)  # (D, x * y * z * C)
    weights[f"{patches}1.bias"] = weights[f"{patches}bias"]
    result = {}
    for key, shape in tensors_of_layout(name).items():
        unused_shape = (6, 6, 1, 1, 1) if "conv3" in key else (6,) * len(shape)
        result[key] = weights[key] if key in weights else torch.randn(unused_shape)
    return result
