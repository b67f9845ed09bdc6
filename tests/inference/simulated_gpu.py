"""A GPU's memory as PyTorch reports it, for machines without one."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

MIB = 2**20


class SimulatedGPU:
    """Answers for `torch.cuda` on the memory of one device.

    Args:
        monkeypatch: puts it in place.
        total: bytes of memory.
        taken: bytes that another process holds.
        share: of the total that this process may use, as by `torch.cuda.set_per_process_memory_fraction`.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, total: int, taken: int = 0, share: float = 1.0) -> None:
        self.total, self.taken, self.share = total, taken, share
        self.allocated = self.reserved = self.peak = 0
        answers = {
            "current_device": lambda: 0,
            "memory_allocated": lambda device: self.allocated,
            "memory_reserved": lambda device: self.reserved,
            "max_memory_allocated": lambda device: self.peak,
            "reset_peak_memory_stats": lambda device: setattr(self, "peak", self.allocated),
            "mem_get_info": lambda device: (self.total - self.taken - self.reserved, self.total),
            "get_per_process_memory_fraction": lambda device: self.share,
            "get_device_properties": lambda device: SimpleNamespace(total_memory=self.total),
        }
        for name, answer in answers.items():
            monkeypatch.setattr(torch.cuda, name, answer, raising=False)

    def allocate(self, size: int) -> None:
        """Take memory; what was taken before and given back is used again."""
        if self.allocated + size > min(self.total - self.taken, self.share * self.total):
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size / MIB:.2f} MiB.")
        self.allocated += size
        self.reserved = max(self.reserved, self.allocated)
        self.peak = max(self.peak, self.allocated)

    def free(self, size: int) -> None:
        """Give memory back, to PyTorch's cache."""
        self.allocated -= size


class NetworkOn(nn.Module):
    """A network that takes memory of a simulated GPU while it runs, and notes the sizes of its batches.

    Args:
        gpu: whose memory.
        network: gives the output.
        fixed: bytes that any batch takes.
        window: bytes that each of its windows takes beside.
        search: bytes that the first batch of each size takes beside, as cuDNN's trials do where there is room.
    """

    def __init__(self, gpu: SimulatedGPU, network: nn.Module, fixed: int, window: int, search: int = 0) -> None:
        super().__init__()
        self.gpu, self.network, self.fixed, self.window, self.search = gpu, network, fixed, window, search
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = self.fixed + len(x) * self.window
        if len(x) not in self.sizes and self.gpu.allocated + size + self.search < self.gpu.total:
            self.gpu.allocate(size + self.search)
            self.gpu.free(size + self.search)
        self.gpu.allocate(size)
        self.gpu.free(size)
        self.sizes.append(len(x))
        return self.network(x)

    def load_state_dict(self, weights: dict[str, torch.Tensor]) -> None:
        self.network.load_state_dict(weights)
