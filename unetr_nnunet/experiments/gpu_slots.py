"""Give every training its own GPUs, by locks that end with the process that holds them."""

import fcntl
import os
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

POLL_S = 5.0


def locks_folder() -> Path:
    """Return where this user's locks lie on this machine: one place for all studies, which share its GPUs."""
    return Path(tempfile.gettempdir()) / f"unetr_nnunet_gpus_{os.getuid()}"


def take_gpus(folder: Path, count: int, visible: list[str]) -> list[str]:
    """Wait until ``count`` GPUs are free and take them until this process, or the program it becomes, ends.

    The descriptors stay open through ``exec``, so that the lock is the training's own.

    Args:
        folder: where the locks lie, one file for each GPU.
        count: GPUs to take.
        visible: names of those there are, as ``CUDA_VISIBLE_DEVICES`` has them.

    Returns:
        The names of those taken.

    Raises:
        ValueError: there are fewer than ``count``.
    """
    if len(visible) < count:
        raise ValueError(f"{count} GPUs wanted for one training, {len(visible)} here: lower --gpus-per-training")
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        taken: dict[str, int] = {}
        for name in visible:
            file_name = quote(f"gpu_{name}", safe="")  # a part of a GPU can be called MIG-GPU-<uuid>/1/0
            descriptor = os.open(folder / file_name, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            taken[name] = descriptor
            if len(taken) == count:
                for descriptor in taken.values():
                    os.set_inheritable(descriptor, True)
                return list(taken)
        for descriptor in taken.values():
            os.close(descriptor)
        time.sleep(POLL_S)


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
