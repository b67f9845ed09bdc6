"""How many parameters a checkpoint holds, counted without torch, for the report.

A ``.pth`` file is a zip archive (torch.save, PyTorch 1.6 and later) whose ``data.pkl`` describes the tensors. Only that
description is unpickled, with an inert stand-in for every class, so a foreign checkpoint can do nothing.
"""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

WEIGHTS = "network_weights"


class _Inert(dict[Any, Any]):
    """Stands in for the classes and functions that a pickle names; keeps the arguments, does nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        """Take the state of an object."""

    def __hash__(self) -> int:  # type: ignore[override]  # an object may lie in a set
        return id(self)


class _Description(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return OrderedDict if name == "OrderedDict" else _Inert

    def persistent_load(self, pid: Any) -> Any:
        return pid  # of a storage: ("storage", type, key, device, elements)


def count_parameters(checkpoint: Path) -> int:
    """Return how many numbers the network's weights hold; weights that two names share count once.

    Raises:
        ValueError: the file is no checkpoint of nnU-Net, or is damaged.
    """
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(name) as stream:
                storages = dict(map(_storage, _Description(stream).load()[WEIGHTS].values()))
        return sum(storages.values())
    except (OSError, zipfile.BadZipFile, StopIteration, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{checkpoint} is not a PyTorch checkpoint, or damaged ({type(error).__name__})") from error
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise ValueError(f"{checkpoint} holds no {WEIGHTS!r}, so it is not a checkpoint of nnU-Net") from error


def _storage(tensor: _Inert) -> tuple[str, int]:
    """Return key and elements of a tensor's storage; both a tensor's and a parameter's first argument leads there."""
    first = tensor.arguments[0]
    return _storage(first) if isinstance(first, _Inert) else (first[2], first[4])
