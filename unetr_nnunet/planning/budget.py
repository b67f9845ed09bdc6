"""What a training step may take: memory of the GPU, less a reserve, and operations."""

import math
from dataclasses import dataclass

from unetr_nnunet.planning.memory import CONTEXT, GIB, UNCERTAINTY, MemoryEstimate

TFLOP = 10**12


@dataclass(frozen=True)
class Budget:
    """The two limits of a training step.

    Attributes:
        gpu_memory_gib: memory of the GPU.
        flop: floating-point operations of a step, forward and backward, a multiply-add counted as two.
        flop_source: where that figure comes from.
    """

    gpu_memory_gib: float
    flop: float
    flop_source: str = "as you asked"

    @property
    def memory(self) -> float:
        """Bytes that a predicted peak may have, so that the reserve stays free."""
        return (self.gpu_memory_gib * GIB - CONTEXT) / (1 + UNCERTAINTY)

    def used(self, estimate: MemoryEstimate) -> float:
        """Return the larger used share of the two limits, at most 1 where both are kept.

        Weights and optimizer state are taken off the memory first: what is left is used in proportion to the batch.
        """
        return max(self._memory_used(estimate), estimate.flop / self.flop)

    def exceeded(self, estimate: MemoryEstimate) -> str:
        """Return the limit that a step exceeds, "memory" or "compute", or an empty string."""
        if self._memory_used(estimate) > 1:
            return "memory"
        return "compute" if estimate.flop > self.flop else ""

    def _memory_used(self, estimate: MemoryEstimate) -> float:
        free = self.memory - estimate.fixed
        return (estimate.peak - estimate.fixed) / free if free > 0 else math.inf
