"""Read the weights in a checkpoint file without running any code that the file may hold.

PyTorch's security policy (https://github.com/pytorch/pytorch/security/policy) counts a TorchScript file as a program:
``torch.jit.load`` compiles it and may run parts of it. Its weights alone are plain data: ``data.pkl`` is a pickle of
nested objects with tensors as attributes, ``data/N`` the bytes of the tensors (layout:
https://github.com/pytorch/pytorch/blob/main/torch/csrc/jit/docs/serialization.md). They are read as any other
checkpoint, with every class of the program replaced by an inert holder of attributes.
"""

import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from unetr_nnunet.nnunet.checkpoint import load_restricted

SAVE_WEIGHTS = "save the weights alone with torch.save(model.state_dict(), 'weights.pth')"
_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")  # of DataParallel and torch.compile
_REMEDY = f"where you trust its source, load it with torch.load(..., weights_only=False) and {SAVE_WEIGHTS}"
_HARMLESS = re.compile(r"__torch__\.|torch\.jit\._pickle\.")  # the program's classes; marks of element types


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


class _Holder:
    """Stands in for an object of any TorchScript class; the unpickler sets its attributes."""

    def __new__(cls, *_: object) -> "_Holder":
        return super().__new__(cls)


def _first(value: object, *_: object) -> object:
    return value


def is_torchscript(path: Path) -> bool:
    """Tell whether a file is a TorchScript archive: a zip file with a record of constants."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(map(_is_constants, archive.namelist()))


def read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the module in a TorchScript archive, under the names that its state dict has.

    Args:
        path: a file of ``torch.jit.save``.

    Returns:
        Parameters, buffers, and other attributes that are tensors, which the archive does not tell apart.

    Raises:
        ValueError: if the archive cannot be read, names anything but data, or holds no tensors (a frozen module).
    """
    copy = io.BytesIO()
    try:
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
            for name in source.namelist():
                if not _is_constants(name):  # by these torch knows a program
                    target.writestr(name, source.read(name))
        copy.seek(0)
        names = torch.serialization.get_unsafe_globals_in_checkpoint(copy)
    except Exception as error:  # zipfile, and torch's reader of pickles, raise what their parts raise
        raise ValueError(
            f"{path} is a TorchScript archive that cannot be read ({type(error).__name__}): it may be damaged; "
            f"{SAVE_WEIGHTS}"
        ) from error
    allowed = [(_Holder if name.startswith("__torch__.") else _first, name) for name in names if _HARMLESS.match(name)]
    copy.seek(0)
    module = load_restricted(path, content=copy, allowed=allowed, remedy=SAVE_WEIGHTS)
    tensors = dict(_tensors(module, ""))
    if not tensors:
        raise ValueError(
            f"{path} is a TorchScript archive without weights, as torch.jit.freeze leaves it: save the model unfrozen, "
            "or its state dict"
        )
    return tensors


def _is_constants(name: str) -> bool:
    return name.endswith("/constants.pkl") and name.count("/") == 1


def _tensors(holder: object, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in vars(holder).items() if isinstance(holder, _Holder) else ():
        if isinstance(value, torch.Tensor):
            yield prefix + name, value
        else:
            yield from _tensors(value, f"{prefix}{name}.")
