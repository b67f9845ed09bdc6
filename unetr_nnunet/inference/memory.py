"""How much memory there is, and arrays that lie in a file where it is not enough."""

import os
import tempfile
from collections.abc import Sequence
from math import prod
from pathlib import Path

import psutil
import torch

USABLE_SHARE = 0.7
"""Of what is free; the rest is for the network's own activations and for what else runs."""

CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_bytes(cgroup_files: Sequence[tuple[str, str]] = CGROUP_FILES) -> int:
    """Return how many bytes this process may still take: of the machine's memory and of its control group's."""
    free = int(psutil.virtual_memory().available)
    for limit_file, usage_file in cgroup_files:
        try:
            limit, usage = (Path(name).read_text(encoding="ascii").strip() for name in (limit_file, usage_file))
        except OSError:
            continue
        if limit.isdigit():
            free = min(free, max(0, int(limit) - int(usage)))
    return free


class Arrays:
    """Makes arrays in memory, or, where a case needs more than there is, in files that are gone afterwards.

    Args:
        needed_bytes: what the case needs in all.
        scratch: folder for the files.
        free: bytes that are free; None asks the machine.
    """

    def __init__(self, needed_bytes: int, scratch: Path | None = None, free: int | None = None) -> None:
        self.in_files = needed_bytes > USABLE_SHARE * (free_bytes() if free is None else free)
        self.scratch = scratch

    def zeros(self, shape: Sequence[int], kind: torch.dtype, device: torch.device) -> torch.Tensor:
        """Return an array of zeros; on a GPU always in its memory."""
        if not self.in_files or device.type != "cpu":
            return torch.zeros(tuple(shape), dtype=kind, device=device)
        with tempfile.NamedTemporaryFile(dir=self.scratch, prefix=".tmp-scratch-") as file:
            size = prod(shape)
            os.posix_fallocate(file.fileno(), 0, max(1, size * kind.itemsize))  # zeros; a full disk is said here
            array = torch.from_file(file.name, shared=True, size=size, dtype=kind)  # lives on after the name is gone
        return array.view(tuple(shape))
