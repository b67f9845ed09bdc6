"""Add up the logits of overlapping windows, weighted by how near a voxel is to its window's centre.

Everything is done output by output: what belongs to one output of a window fits in a processor's cache, and memory that
small is used again, where the operating system would have to clear a whole window's each time.
"""

from collections.abc import Sequence

import torch

LARGEST_SUM = 60_000.0
"""Sums up to this are safe in float16, whose largest number is 65504."""


class LogitSums:
    """Sums over the windows of an image.

    Args:
        logits: zeros, (K, *S), that become the sums.
        importance: weight of each voxel of a window, (*patch), on the same device.
        exact: whether to add as nnU-Net does: float32 to float16. Rounding before takes a third of the time on a CPU.
    """

    def __init__(self, logits: torch.Tensor, importance: torch.Tensor, exact: bool) -> None:
        self.logits, self.importance, self.exact = logits, importance, exact
        self.weights = torch.zeros(logits.shape[1:], dtype=logits.dtype, device=logits.device)
        """Sums of the importance, (*S)."""
        self._largest = torch.zeros((), device=logits.device)
        self._views: torch.Tensor | None = None

    def over_views(self, logits: torch.Tensor, view: Sequence[int], is_first: bool) -> torch.Tensor:
        """Return the sum over the views of one window so far, (K, *patch) float32; the next call changes it.

        Args:
            logits: of a mirrored window, (K, *patch).
            view: axes of the patch along which it is mirrored.
            is_first: whether a new window begins.
        """
        if self._views is None:
            self._views = torch.empty(logits.shape, dtype=torch.float32, device=logits.device)
        for total, output in zip(self._views, logits, strict=True):
            seen = torch.flip(output, list(view)) if view else output
            if is_first:
                total.copy_(seen)
            else:
                total.add_(seen)
        return self._views

    def add(self, box: Sequence[slice], logits: torch.Tensor, views: int) -> torch.Tensor:
        """Add a window, if all its logits are finite; return whether, (), without waiting for the device.

        Args:
            box: where it lies, one slice per axis.
            logits: summed over its views, (K, *patch).
            views: how many.
        """
        largest = torch.stack(torch.aminmax(logits)).abs().amax().float() / views
        finite = torch.isfinite(largest)
        self._largest = torch.maximum(self._largest, torch.where(finite, largest, 0))
        for total, output in zip(self.logits[(slice(None), *box)], logits, strict=True):
            weighted = (output.float() / views).mul_(self.importance).masked_fill_(~finite, 0)
            total += weighted if self.exact else weighted.to(total.dtype)
        self.weights[tuple(box)] += self.importance * finite
        return finite

    def are_too_large(self) -> bool:
        """Return whether sums may exceed what their type holds."""
        limit = LARGEST_SUM if self.logits.dtype is torch.float16 else torch.finfo(torch.float32).max / 2
        return float(self._largest) * float(self.weights.max()) > limit

    def mean(self, part: Sequence[slice]) -> torch.Tensor:
        """Turn the sums of a part of the image into means and return them, (K, *part), a view.

        Args:
            part: one slice per axis.
        """
        logits = self.logits[(slice(None), *part)]
        for output in logits:
            output /= self.weights[tuple(part)]
        return logits

    def clear(self) -> None:
        """Reset the sums for the next fold, but keep the largest logit seen so far."""
        self.logits.zero_()
        self.weights.zero_()
