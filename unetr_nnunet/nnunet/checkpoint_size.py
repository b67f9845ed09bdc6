"""How many parameters a checkpoint holds, without torch and without running anything that is in it.

A ``.pth`` file is a zip archive (torch.save, PyTorch 1.6 and later); its ``data.pkl`` describes the tensors. It is
unpickled with every class replaced by an inert stand-in, so a foreign checkpoint can do nothing.
"""

import collections
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

WEIGHTS = "network_weights"


class _Inert:
    """Stands in for every class and function that a pickle names; takes anything, does nothing."""

    def __init__(self, *arguments: Any, **_: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __call__(self, *arguments: Any, **_: Any) -> "_Inert":
        return self

    def __hash__(self) -> int:
        return id(self)

    def append(self, item: Any) -> None:
        """Take an item of a list-like object."""

    def extend(self, items: Any) -> None:
        """Take items of a list-like object."""


class _Tensor(_Inert):
    """What ``torch._utils._rebuild_tensor_v2(storage, offset, size, ...)`` would build."""


class _Parameter(_Inert):
    """What ``torch._utils._rebuild_parameter(tensor, ...)`` would build."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils" and name.startswith("_rebuild_tensor"):
            return _Tensor
        if module == "torch._utils" and name.startswith("_rebuild_parameter"):
            return _Parameter
        return _Inert

    def persistent_load(self, pid: Any) -> Any:
        return pid


def count_parameters(checkpoint: Path) -> int:
    """Return how many numbers the network's weights hold; weights that two names share count once.

    Raises:
        ValueError: the file is no checkpoint of nnU-Net, or is damaged.
    """
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(name) as stream:
                content = _Reader(stream).load()
        tensors = content[WEIGHTS].values()
        sizes = {}
        for entry in tensors:
            tensor = entry.arguments[0] if isinstance(entry, _Parameter) else entry
            storage, offset, size = tensor.arguments[:3]
            sizes[(storage[2], offset, tuple(size))] = math.prod(size)
    except (OSError, zipfile.BadZipFile, StopIteration, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{checkpoint} is no PyTorch checkpoint, or it is damaged ({type(error).__name__})") from error
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise ValueError(f"{checkpoint} holds no {WEIGHTS!r}, so it is no checkpoint of nnU-Net") from error
    return sum(sizes.values())
