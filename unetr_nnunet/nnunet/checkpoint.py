"""Read PyTorch checkpoints, those of nnU-Net v2 above all, without running any code in the file.

nnU-Net 2.8 loads checkpoints with ``weights_only=False``, so a downloaded file can run any code. Here torch's
restricted unpickler reads them, with an allow-list of the few numpy types that nnU-Net logs.
"""

import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

REWRITTEN = ("checkpoint_best.pth", "checkpoint_latest.pth")
"""Checkpoints that a running training replaces; nnU-Net overwrites them in place, under a reader's memory map."""

_RECONSTRUCT = np.asarray(0.0).__reduce__()[0]
_SCALAR = np.float64(0.0).__reduce__()[0]
ALLOWED: tuple[Any, ...] = (
    np.ndarray,
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_RECONSTRUCT, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
)
"""What nnU-Net's checkpoints hold besides tensors and plain data: the losses and Dice scores of their log, as numpy
scalars and arrays of no dimension. numpy 2 moved the functions that make them; checkpoints name either place."""

ORIENTATIONS = frozenset(
    "".join(ends) for axes in permutations(("RL", "AP", "SI")) for ends in product(*axes)
)  # all 48


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a checkpoint that a prediction needs.

    Attributes:
        path: the file.
        weights: the network's state dict, on the CPU; as a rule mapped from the file, not read into memory.
        trainer_name: class name of the trainer that wrote it.
        configuration: name of the configuration that was trained, such as ``3d_fullres``.
        mirror_axes: spatial axes of the patch that may be mirrored in prediction.
        array_orientation: orientation code of the arrays it was trained on; None where the checkpoint does not say.
    """

    path: Path
    weights: dict[str, torch.Tensor]
    trainer_name: str
    configuration: str
    mirror_axes: tuple[int, ...]
    array_orientation: str | None


def load_checkpoint(path: Path, trust: bool = False) -> Checkpoint:
    """Read a checkpoint of nnU-Net v2.

    Args:
        path: the ``.pth`` file.
        trust: unpickle everything in the file, which may run code of the file's author.

    Raises:
        ValueError: if the file is damaged, needs code to be loaded and is not trusted, or is no checkpoint of nnU-Net.
    """
    content = load_restricted(path, trust=trust)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a checkpoint of an nnU-Net v2 trainer")
    try:
        weights = dict(content["network_weights"])
        trainer_name, configuration = content["trainer_name"], content["init_args"]["configuration"]
        mirror_axes = tuple(int(axis) for axis in content.get("inference_allowed_mirroring_axes") or ())
    except KeyError as error:
        raise ValueError(f"{path} is not a checkpoint of an nnU-Net v2 trainer: it has no entry {error}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a checkpoint of an nnU-Net v2 trainer: {error}") from error
    wrong = [str(name) for name, tensor in weights.items() if not isinstance(tensor, torch.Tensor)]
    if wrong or not weights:
        raise ValueError(f"{path} is damaged: its network_weights hold {', '.join(wrong[:3]) or 'nothing'}, no tensors")
    orientation = content.get("array_orientation")
    return Checkpoint(
        path,
        weights,
        str(trainer_name),
        str(configuration),
        mirror_axes,
        orientation if orientation in ORIENTATIONS else None,
    )


def load_restricted(
    path: Path,
    *,
    content: IO[bytes] | None = None,
    allowed: Iterable[Any] = ALLOWED,
    trust: bool = False,
    remedy: str = "where you trust its source, --trust-checkpoint loads it anyway",
) -> Any:
    """Return what a file of ``torch.save`` holds, its tensors on the CPU, unpickling nothing that could run code.

    Args:
        path: the file.
        content: what to read in its place; ``path`` is then named in messages only.
        allowed: classes and functions to unpickle besides tensors and plain data, as `torch.serialization.safe_globals`
            takes them.
        trust: unpickle everything.
        remedy: what to do about a file that needs more than that, for the message.

    Raises:
        ValueError: the file is damaged, or needs more than is allowed and is not trusted.
    """
    mapped = content is None and zipfile.is_zipfile(path) and path.name not in REWRITTEN  # torch maps its zip format
    known = torch.serialization.get_safe_globals()  # leaving the context would take them from whoever allowed them
    extra = [entry for entry in allowed if entry not in known]
    with torch.serialization.safe_globals(extra), warnings.catch_warnings(action="ignore"):  # of pickles not torch's
        try:
            return torch.load(content or path, map_location="cpu", weights_only=not trust, mmap=mapped)
        except Exception as error:  # torch raises what its many readers raise
            if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.filename):
                raise
            refused = [] if trust else _refused_names(path, error)
            if refused:
                raise ValueError(
                    f"{path} needs unpickling of {', '.join(refused)}, which could run any code, and is refused; "
                    f"{remedy}"
                ) from error
            raise ValueError(
                f"{path} is not a PyTorch checkpoint, or it is damaged ({type(error).__name__}): check its size, and "
                "copy it again"
            ) from error


def in_brief(error: Exception) -> str:
    """Return the kind of an error of another library, and the first line of what it says."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def _refused_names(path: Path, error: Exception) -> list[str]:
    """Return the names in the pickle that are not allowed."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # a file that torch did not write; its unpickler stopped at the first name
        return re.findall(r"GLOBAL (\S+)", str(error))
