"""Run a network over an image window by window, and add up its logits."""

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from torch import nn

from unetr_nnunet.inference.batch_sizes import BatchSizes
from unetr_nnunet.inference.device import fastest_convolutions, to_device
from unetr_nnunet.inference.memory import Arrays
from unetr_nnunet.inference.model import Model
from unetr_nnunet.inference.windows import Window, place_windows
from unetr_nnunet.trainers.precision import cpu_has_bfloat16

BATCH_VOXELS = 2**20
"""Windows are run together up to about this many voxels; on a CPU larger batches gain nothing."""

GPU_BATCH_VOXELS = 2**24
"""The same on a GPU. Up to 127 feature maps of such a batch stay within 2**31 elements, the limit of many kernels."""

SUSPICION = 2.0
"""A voxel is worth a second look where an organ's logit comes this near to the background's."""

Progress = Callable[[int, int], None]
Run = tuple[Window, tuple[int, ...]]


def autocast(device: torch.device, exact: bool) -> AbstractContextManager[object]:
    """Return the arithmetic of a prediction: nnU-Net's; on a CPU with bfloat16 that, where the result may differ."""
    if device.type == "cuda":
        return torch.autocast("cuda")
    if device.type == "cpu" and cpu_has_bfloat16() and not exact:
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return contextlib.nullcontext()


@dataclass(frozen=True)
class Placement:
    """Where the work is done.

    Attributes:
        device: of the network.
        results: of the logits, and of the image while the network runs.
        batch_voxels: most voxels in one batch; a window is always run.
    """

    device: torch.device
    results: torch.device
    batch_voxels: int = BATCH_VOXELS

    @classmethod
    def on(cls, device: torch.device, one_by_one: bool = False) -> "Placement":
        """Return the placement to try first, with everything on the device.

        Args:
            device: where.
            one_by_one: whether every window is run by itself.
        """
        if one_by_one:
            return cls(device, device, 1)
        return cls(device, device, GPU_BATCH_VOXELS) if device.type == "cuda" else cls(device, device)

    def smaller(self) -> tuple["Placement", str] | None:
        """Return what to try when a GPU's memory is not enough, with a description; None if nothing is left."""
        if self.device.type == "cpu":
            return None
        if self.results.type != "cpu":
            cpu = torch.device("cpu")
            return Placement(self.device, cpu, self.batch_voxels), "keeping the logits in main memory"
        if self.batch_voxels > 1:
            return Placement(self.device, self.results, 1), "running one window at a time"
        return Placement(torch.device("cpu"), self.results), "running on the CPU"


class SlidingWindow:
    """The windows of one image, run by each fold of a model.

    If the results lie on a GPU, the image is copied there once, and the CPU does not wait for the GPU between windows;
    the reported progress is ahead of it by what its queue holds. If the results of a GPU lie in main memory, each batch
    is copied to the GPU and back.

    Args:
        data: (C, *S) the network's input.
        part: first and one past the last voxel, per axis, of where something is.
        model: what to run.
        placement: where to run it.
        arrays: makes the array of logits.
        exact: run every view of every window in full precision, as nnU-Net does; else each window in half of the views,
            and beyond the first pass only windows with something in them.
        progress: called with the number of views that are done (on a GPU: under way), and of all.
    """

    def __init__(
        self,
        data: torch.Tensor,
        part: Sequence[tuple[int, int]],
        model: Model,
        placement: Placement,
        arrays: Arrays,
        exact: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.model, self.placement, self.arrays, self.exact = model, placement, arrays, exact
        self.progress = progress or (lambda done, total: None)
        patch = tuple(model.configuration.patch_size)
        self.is_flat = len(patch) == 2  # slices, one by one
        self.patch = (1, *patch) if self.is_flat else patch
        padded, inner = pad_nd_image(data, self.patch, "constant", {"value": 0}, True, None)
        self.data = to_device(padded, placement.results)
        self.part: tuple[slice, ...] = tuple(
            slice(span.start + start, span.start + stop) for span, (start, stop) in zip(inner[1:], part, strict=True)
        )
        mirror_axes = tuple(axis + self.is_flat for axis in model.mirror_axes)
        self.windows = self._place(mirror_axes)
        importance = compute_gaussian(patch, sigma_scale=1 / 8, value_scaling_factor=10, device=torch.device("cpu"))
        self.importance = importance.view(self.patch).to(placement.results)
        most = 1 if exact else max(1, placement.batch_voxels // self.importance.numel())
        self.batches = BatchSizes(placement.device, most)

    def _place(self, mirror_axes: Sequence[int]) -> list[Window]:
        shape = tuple(self.data.shape[1:])
        if not self.is_flat:
            return place_windows(shape, self.patch, mirror_axes, self.exact)
        in_plane = place_windows(shape[1:], self.patch[1:], [axis - 1 for axis in mirror_axes], self.exact)
        return [
            Window(
                (z, *window.start),
                tuple(tuple(axis + 1 for axis in view) for view in window.views),
                ((z, z + 1), *window.core),
                window.is_first,
            )
            for window in in_plane
            for z in range(shape[0])
        ]

    @torch.no_grad()
    def run(self, parameters: Sequence[dict[str, torch.Tensor]]) -> torch.Tensor:
        """Return the mean logits over all folds, (K, *part) float16.

        Args:
            parameters: weights of each fold.
        """
        with fastest_convolutions(self.placement.device):
            return self._run(parameters)

    def _run(self, parameters: Sequence[dict[str, torch.Tensor]]) -> torch.Tensor:
        network = self.model.network.to(self.placement.device).eval()
        outputs, shape = int(self.model.labels.num_segmentation_heads), tuple(self.data.shape[1:])
        self.logits = self.arrays.zeros((outputs, *shape), torch.float16, self.placement.results)
        self.weights = torch.zeros(shape, dtype=torch.float16, device=self.placement.results)
        self.done, self.total = 0, _views(self.windows) * len(parameters)
        windows = self.windows
        mean: torch.Tensor | None = None
        for fold, weights in enumerate(parameters):
            network.load_state_dict(weights)
            if fold == 0 and not self.exact:
                windows = self._first_fold(network)
                self.total = _views(windows) * len(parameters)
            else:
                self._add(network, windows)
            logits = self.logits[(slice(None), *self.part)]
            for output in logits:
                output /= self.weights[self.part]
            if len(parameters) == 1:
                return logits
            mean = self.arrays.zeros(logits.shape, torch.float16, self.placement.results) if mean is None else mean
            mean += logits / len(parameters)
            self.logits.zero_()
            self.weights.zero_()
        return self.logits if mean is None else mean

    def _first_fold(self, network: nn.Module) -> list[Window]:
        """Run the first pass over the part, and the other windows with something in their core; return both."""
        first = [w for w in self.windows if w.is_first and all(map(_overlap, self._box(w)[1:], self.part))]
        self._add(network, first)
        suspicious = self._suspicious()
        cores = {w: tuple(slice(*bounds) for bounds in w.core) for w in self.windows if not w.is_first}
        others = [w for w, core in cores.items() if suspicious[core].any()]
        self._add(network, others)
        return [*first, *others]

    def _box(self, window: Window) -> tuple[slice, ...]:
        spans = (slice(start, start + length) for start, length in zip(window.start, self.patch, strict=True))
        return (slice(None), *spans)

    def _suspicious(self) -> torch.Tensor:
        """Return where in the part something may be, (*S) bool, in main memory."""
        found = torch.zeros_like(self.weights, dtype=torch.bool)
        rows, y, x = self.part
        for z in range(rows.start, rows.stop):  # a slice at a time, for the memory
            values = self.logits[:, z, y, x].float() / self.weights[z, y, x].float()
            background = 0.0 if self.model.labels.has_regions else values[0]
            organs = values if self.model.labels.has_regions else values[1:]
            found[z, y, x] = organs.amax(0) > background - SUSPICION
        return found.cpu()

    def _add(self, network: nn.Module, windows: Sequence[Window]) -> None:
        runs = [(window, view) for window in windows for view in window.views]
        mean: torch.Tensor | None = None  # of the views of one window so far
        start = 0
        while start < len(runs):
            with self.batches.take(len(runs) - start) as size:
                mean = self._add_batch(network, runs[start : start + size], mean)
            start += size
            self.done += size
            self.progress(self.done, self.total)

    def _add_batch(self, network: nn.Module, batch: Sequence[Run], mean: torch.Tensor | None) -> torch.Tensor | None:
        """Run a batch; take and return the mean so far of the views of the window that it begins and ends in."""
        for (window, view), output in zip(batch, self._outputs(network, batch), strict=True):
            seen = torch.flip(output, view_dims(view)).float()
            mean = seen if view == window.views[0] or mean is None else mean + seen
            if view == window.views[-1]:
                box = self._box(window)
                self.logits[box] += mean / len(window.views) * self.importance
                self.weights[box[1:]] += self.importance
        return mean

    def _outputs(self, network: nn.Module, batch: Sequence[Run]) -> torch.Tensor:
        """Return the logits of each mirrored window, (B, K, *patch)."""
        inputs = torch.stack([torch.flip(self.data[self._box(window)], view_dims(view)) for window, view in batch])
        inputs = to_device(inputs.squeeze(2) if self.is_flat else inputs, self.placement.device)
        with autocast(self.placement.device, self.exact):
            outputs: torch.Tensor = network(inputs).to(self.placement.results)
        return outputs.unsqueeze(2) if self.is_flat else outputs


def _views(windows: Sequence[Window]) -> int:
    return sum(len(window.views) for window in windows)


def _overlap(one: slice, other: slice) -> bool:
    return bool(one.start < other.stop and other.start < one.stop)


def view_dims(view: Sequence[int]) -> list[int]:
    """Return the dimensions of (C, *S) to flip for a view."""
    return [axis + 1 for axis in view]
