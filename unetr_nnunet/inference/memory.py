"""How much memory is free, and arrays that lie in a file where it is not enough."""

import os
import resource
import sys
import tempfile
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path

import psutil
import torch

GIB = 2**30

USABLE_SHARE = 0.7
"""Of what is free; the rest is for the network's own activations and for what else runs."""

_LIMIT_AND_USAGE = {
    "": ("memory.max", "memory.current"),  # version 2: one hierarchy for all that is controlled
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes"),  # version 1: one for memory
}


def free_bytes(own_groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many bytes this process may still take: of the machine, its control groups, and its own limits.

    A limit may be set for the process's own group or for any group around it (Slurm sets it for the job, say), or by
    ``ulimit -v`` for the process.

    Args:
        own_groups: file that names this process's control groups, see cgroups(7).
        root: folder of all control groups.
    """
    free = min(int(psutil.virtual_memory().available), _free_addresses())
    for folder, limit_file, usage_file in _groups(own_groups, root):
        try:
            limit, usage = ((folder / name).read_text(encoding="ascii").strip() for name in (limit_file, usage_file))
        except OSError:
            continue
        if limit.isdigit() and usage.isdigit():
            free = min(free, max(0, int(limit) - int(usage)))
    return free


def _free_addresses() -> int:
    """Return how many bytes of address space ``ulimit -v`` leaves."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(0, limit - int(psutil.Process().memory_info().vms))


def _groups(own_groups: Path, root: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield the folder of each group that this process is in, and its files of limit and usage.

    In a container the groups may be named as its host sees them; then only the outermost folder is there.
    """
    try:
        lines = own_groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        for controller, files in _LIMIT_AND_USAGE.items():
            if controller in controllers.split(","):
                top = root / controller
                own = top / group.lstrip("/")
                for folder in (own, *own.parents) if ".." not in own.parts else (top,):
                    if folder.is_relative_to(top):
                        yield (folder, *files)


def free_on(device: torch.device) -> int:
    """Return how many bytes of a device's memory this process may still take.

    On a GPU that is what its driver has to give and what PyTorch holds without using it, within the share that
    `torch.cuda.set_per_process_memory_fraction` grants; elsewhere `free_bytes`.

    Args:
        device: a GPU or the CPU.
    """
    if device.type != "cuda":
        return free_bytes()
    index = torch.cuda.current_device() if device.index is None else device.index
    used = torch.cuda.memory_allocated(index)
    free = torch.cuda.mem_get_info(index)[0] + torch.cuda.memory_reserved(index) - used
    share = getattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 1.0)(index)  # from torch 2.7 on
    if share < 1:
        free = min(free, int(share * torch.cuda.get_device_properties(index).total_memory) - used)
    return max(0, free)


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
