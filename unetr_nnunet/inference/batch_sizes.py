"""How many windows a network is given at a time."""

import contextlib
from collections.abc import Iterator

import torch

from unetr_nnunet.inference.memory import free_on

FILLED_SHARE = 0.8
"""How much of a GPU's free memory a batch may take; some is lost to gaps between blocks."""


class BatchSizes:
    """The sizes of the batches that an image's windows are run in.

    On a CPU every batch has the largest size allowed. On a GPU memory decides: one window is run, then two, each twice,
    because the first run of a shape includes the workspaces of all the algorithms that cuDNN tries. The peaks of the
    second runs give the cost of a window, and with it the largest power of two that fits. Every run counts towards the
    result, and PyTorch keeps its memory statistics on the CPU, so that the measurement makes nothing wait for the GPU.
    It resets the device's peak statistics.

    Args:
        device: of the network.
        most: the largest size allowed.
    """

    def __init__(self, device: torch.device, most: int) -> None:
        self.device, self.most = device, most
        self.size = 0 if device.type == "cuda" and most > 1 else most
        """Of the batches from now on; 0 while it is being measured."""
        self._peaks: dict[int, list[int]] = {1: [], 2: []}

    @contextlib.contextmanager
    def take(self, left: int) -> Iterator[int]:
        """Yield how many windows to run; the batch has to be run before the context ends.

        Args:
            left: windows that remain to be run, at least one.
        """
        if self.size:
            size = min(self.size, left)
            # cuDNN searches again for every new shape: powers of two keep them few
            yield _power_of_two(size) if self.device.type == "cuda" else size
            return
        size = min(1 if len(self._peaks[1]) < 2 else 2, left)
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        yield size
        self._peaks[size].append(torch.cuda.max_memory_allocated(self.device) - before)
        self._decide()

    def _decide(self) -> None:
        """Set the size as soon as the measurements tell."""
        if len(self._peaks[1]) < 2:
            return
        one, room = self._peaks[1][-1], int(FILLED_SHARE * free_on(self.device))
        if 2 * one > room:
            self.size = 1
        elif len(self._peaks[2]) >= 2:
            window = max(self._peaks[2][-1] - one, one // 8, 1)  # workspaces can hide the difference
            self.size = _power_of_two(min(self.most, 1 + (room - one) // window))


def _power_of_two(number: int) -> int:
    """Return the largest power of two up to a number, at least 1."""
    return 1 << (max(1, number).bit_length() - 1)
