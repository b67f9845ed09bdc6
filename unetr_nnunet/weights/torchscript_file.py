"""Read the tensors of a TorchScript archive without loading the program that it holds.

PyTorch's security policy (https://github.com/pytorch/pytorch/security/policy) counts a TorchScript file as a program:
``torch.jit.load`` compiles it and may run parts of it. The weights alone are plain data: ``data.pkl`` is a pickle of
nested objects with tensors as attributes, ``data/N`` the bytes of the tensors (layout:
https://github.com/pytorch/pytorch/blob/main/torch/csrc/jit/docs/serialization.md). Here every class named in the pickle
becomes an inert holder of attributes, and nothing else that it names can be called.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Holder:
    """Stands in for an object of any TorchScript class; the unpickler sets its attributes."""

    def __new__(cls, *_: object) -> "_Holder":
        return super().__new__(cls)


def _tensor(
    storage: torch.Tensor, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> torch.Tensor:
    return torch.as_strided(storage, shape, stride, offset)  # refuses what lies beyond the storage


def _first(value: object, *_: object) -> object:
    return value


class _TensorUnpickler(pickle.Unpickler):
    """Unpickle ``data.pkl``; classes become `_Holder`, tensors are rebuilt from the archive's records."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        """Return what a global stands for; only the names that torch's own writer uses for data are known."""
        if module.startswith("__torch__"):
            return _Holder
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle":  # marks the element type of a list or a dictionary
            return _first
        raise ValueError(f"it names {module}.{name}, which is no tensor")

    def persistent_load(self, pid: Any) -> torch.Tensor:
        """Return the elements of one storage, (n,)."""
        _, dtype, key, _, elements = pid
        data = bytearray(self.archive.read(f"{self.root}data/{key}"))
        return torch.frombuffer(data, dtype=dtype) if elements else torch.empty(0, dtype=dtype)


def is_torchscript(path: Path) -> bool:
    """Tell whether a file is a TorchScript archive: a zip file with a record of constants."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return _root(archive) is not None


def read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the module in a TorchScript archive, under the names that its state dict has.

    Args:
        path: a file of ``torch.jit.save``.

    Returns:
        Parameters, buffers, and other attributes that are tensors, which the archive does not tell apart.

    Raises:
        ValueError: if the archive cannot be read, names anything but data, or holds no tensors (a frozen module).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            module = _TensorUnpickler(archive, _root(archive) or "").load()
            tensors = dict(_tensors(module, ""))
    except Exception as error:  # a pickle that was not written by torch can fail in any way
        raise ValueError(
            f"{path} is a TorchScript archive whose weights cannot be read ({type(error).__name__}: {error}): "
            "save the state dict of the model instead, torch.save(model.state_dict(), 'weights.pth')"
        ) from error
    if not tensors:
        raise ValueError(
            f"{path} is a TorchScript archive without weights, as torch.jit.freeze leaves it: save the model unfrozen, "
            "or its state dict"
        )
    return tensors


def _root(archive: zipfile.ZipFile) -> str | None:
    """Return the folder in the archive that everything lies in, with its slash; None where it is no TorchScript."""
    constants = [name for name in archive.namelist() if name.endswith("/constants.pkl") and name.count("/") == 1]
    return constants[0].removesuffix("constants.pkl") if constants else None


def _tensors(holder: object, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in vars(holder).items():
        if isinstance(value, torch.Tensor):
            yield prefix + name, value
        elif isinstance(value, _Holder):
            yield from _tensors(value, f"{prefix}{name}.")
