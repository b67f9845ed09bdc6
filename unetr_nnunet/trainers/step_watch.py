"""Find out which steps left the weights unchanged, without waiting for the device.

The few numbers that show it are copied to the host while the device goes on, and read one step later.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

import torch

from unetr_nnunet.trainers.precision import PRECISION_VARIABLE

MOST_SKIPPED = 20


@dataclass(frozen=True)
class SkippedStep:
    """A step whose loss or gradient was not finite.

    Attributes:
        name: epoch and iteration, for the log.
        cases: cases that the batch's patches came from.
        in_a_row: how many steps were skipped up to this one, with none between that was not.
        loss: loss of the batch.
        reason: the likely reason.
        remedy: what to do about it.
    """

    name: str
    cases: tuple[str, ...]
    in_a_row: int
    loss: float
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name} was skipped, loss {self.loss:g}, cases {', '.join(self.cases)}: {self.reason}."


@dataclass(frozen=True)
class _Step:
    name: str
    cases: tuple[str, ...]
    facts: torch.Tensor  # loss, norm of the gradients, sum of the voxels; on the host, once they are copied
    copied: torch.cuda.Event | None

    def read(self) -> tuple[float, float, float]:
        if self.copied is not None:
            self.copied.synchronize()
        loss, norm, voxels = self.facts.tolist()
        return loss, norm, voxels


class StepWatch:
    """Keeps the facts of the last steps until they have reached the host.

    Args:
        dtype: of the network's arithmetic; None for float32.
        several: whether the gradients are averaged over several GPUs, whose batches are not known here.
    """

    def __init__(self, dtype: torch.dtype | None, several: bool = False) -> None:
        self.dtype = dtype
        self.elsewhere = ", here or on another GPU" if several else ""
        self.in_a_row = 0
        self._steps: deque[_Step] = deque()

    def note(self, name: str, cases: Sequence[str], data: torch.Tensor, loss: torch.Tensor, norm: torch.Tensor) -> None:
        """Note a step that has been handed to the device.

        Args:
            name: epoch and iteration, for the log.
            cases: cases that the batch's patches came from.
            data: images of the batch, on the device.
            loss: its loss, a scalar there.
            norm: norm of the gradients, a scalar there; not finite where the step was skipped.
        """
        facts = torch.stack([loss.float(), norm.float(), data.sum(dtype=torch.float32)])
        copied = None
        if facts.is_cuda:
            facts = facts.to("cpu", non_blocking=True)  # into pinned memory
            copied = torch.cuda.Event()
            copied.record()
        self._steps.append(_Step(name, tuple(cases), facts.cpu(), copied))

    def skipped(self, but_last: int) -> Iterator[SkippedStep]:
        """Yield which of the steps noted since the last call were skipped, oldest first.

        Args:
            but_last: how many of the latest steps are left for the next call; waits for the others only.
        """
        while len(self._steps) > but_last:
            step = self._steps.popleft()
            loss, norm, voxels = step.read()
            if isfinite(norm):
                self.in_a_row = 0
                continue
            self.in_a_row += 1
            yield SkippedStep(step.name, step.cases, self.in_a_row, loss, *self._reason(loss, voxels))

    def _reason(self, loss: float, voxels: float) -> tuple[str, str]:
        """Return why a step was skipped, and the remedy if many are."""
        recipe = "start again with a recipe of a lower learning rate"
        if not isfinite(voxels):
            return "the batch holds NaN or infinite voxels", "check the preprocessed images of these cases"
        if self.dtype != torch.float16:
            where = "a gradient" if isfinite(loss) else "the network's output"
            return f"{where} overflowed{self.elsewhere}", recipe
        remedy = f"set {PRECISION_VARIABLE}=bfloat16, where the GPU has it, or {recipe}"
        if isfinite(loss):
            return f"a gradient overflowed in float16{self.elsewhere}; the loss is scaled by half as much", remedy
        return f"the network overflowed in float16{self.elsewhere}", remedy
