"""Read the weights in a checkpoint file without running any code that the file may hold."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from unetr_nnunet.nnunet.checkpoint import load_restricted
from unetr_nnunet.weights.torchscript_file import SAVE_WEIGHTS, is_torchscript, read_torchscript

_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")  # of DataParallel and torch.compile
_REMEDY = f"where you trust its source, load it with torch.load(..., weights_only=False) and {SAVE_WEIGHTS}"


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a state dict, of a file with one under "state_dict", or of a TorchScript archive.

    Args:
        path: a ``.pth`` or ``.pt`` file.

    Returns:
        Name to tensor on the CPU, without the prefixes of wrapped models; floating point ones as float32.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no checkpoint, needs code to be loaded, or holds something else than weights.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; give the .pth or .pt file of the weights")
    weights: Any = read_torchscript(path) if is_torchscript(path) else load_restricted(path, remedy=_REMEDY)
    if isinstance(weights, Mapping) and "state_dict" in weights:
        weights = weights["state_dict"]
    problem = _problem(weights)
    if problem:
        raise ValueError(
            f"{path} holds {problem}: a state dict is wanted, or a file with one under 'state_dict'; {SAVE_WEIGHTS}"
        )
    return {
        _WRAPPERS.sub("", name): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }


def _problem(weights: Any) -> str:
    """Return what is wrong with a state dict; nothing where it maps names to tensors."""
    if not isinstance(weights, Mapping) or not weights or not all(isinstance(key, str) for key in weights):
        return f"a {type(weights).__name__} without named tensors"
    others = [key for key, value in weights.items() if not isinstance(value, torch.Tensor)]
    return f"{few(others)}, which are no tensors" if others else ""


def few(names: Sequence[str]) -> str:
    """Return up to three of the names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
