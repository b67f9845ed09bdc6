"""Run a network over an image window by window, and add up its logits."""

import contextlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from torch import nn

from unetr_nnunet.inference.batch_sizes import BatchSizes
from unetr_nnunet.inference.certainty import fold_labels
from unetr_nnunet.inference.device import fastest_convolutions, to_device
from unetr_nnunet.inference.fidelity import Fidelity
from unetr_nnunet.inference.memory import Arrays
from unetr_nnunet.inference.model import Model
from unetr_nnunet.inference.openvino_networks import STREAMS, CompiledNetwork, Forward, OpenVINONetworks, in_pytorch
from unetr_nnunet.inference.placement import Placement
from unetr_nnunet.inference.windows import Window, place_windows
from unetr_nnunet.nnunet.checkpoint import in_brief
from unetr_nnunet.trainers.precision import cpu_has_bfloat16

SUSPICION = 2.0
"""With `Fidelity.FAST`, a voxel is worth a second look where an organ's logit comes this near to the background's."""

LARGEST_SUM = 60_000.0
"""Sums up to this are safe in float16, whose largest number is 65504."""

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Run = tuple[Window, tuple[int, ...]]


def autocast(device: torch.device, fidelity: Fidelity) -> AbstractContextManager[object]:
    """Return the arithmetic of a prediction: nnU-Net's; on a CPU with bfloat16 that, unless it has to be exact."""
    if device.type == "cuda":
        return torch.autocast("cuda")
    if device.type == "cpu" and cpu_has_bfloat16() and fidelity is not Fidelity.EXACT:
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return contextlib.nullcontext()


class SlidingWindow:
    """The windows of one image, run by each fold of a model.

    If the results lie on a GPU, the image is copied there once, and the CPU does not wait for the GPU between windows;
    the reported progress is ahead of it by what its queue holds. If the results of a GPU lie in main memory, each batch
    is copied to the GPU and back.

    A window whose logits are not finite is run again in float32. Sums that float16 cannot hold are done in float32.

    Args:
        data: (C, *S) the network's input.
        part: first and one past the last voxel, per axis, of where the logits are wanted.
        model: what to run.
        placement: where to run it.
        arrays: makes the array of logits.
        fidelity: see `Fidelity`.
        mirroring: whether to use the mirrored views that the model was trained for.
        progress: called with the number of views that are done (on a GPU: under way), and of all.
        openvino: the folds in OpenVINO, run where the image is large enough; None for PyTorch.
    """

    def __init__(
        self,
        data: torch.Tensor,
        part: Sequence[tuple[int, int]],
        model: Model,
        placement: Placement,
        arrays: Arrays,
        fidelity: Fidelity = Fidelity.DEFAULT,
        mirroring: bool = True,
        progress: Progress | None = None,
        openvino: OpenVINONetworks | None = None,
    ) -> None:
        self.model, self.placement, self.arrays, self.fidelity = model, placement, arrays, fidelity
        self.progress = progress or (lambda done, total: None)
        patch = tuple(model.configuration.patch_size)
        self.is_flat = len(patch) == 2  # slices, one by one
        self.patch = (1, *patch) if self.is_flat else patch
        padded, inner = pad_nd_image(data, self.patch, "constant", {"value": 0}, True, None)
        self.data = to_device(padded, placement.results)
        self.part: tuple[slice, ...] = tuple(
            slice(span.start + start, span.start + stop) for span, (start, stop) in zip(inner[1:], part, strict=True)
        )
        axes = tuple(axis + self.is_flat for axis in model.mirror_axes) if mirroring else ()
        self.windows = [w for w in self._place(axes) if all(map(_overlap, self._box(w)[1:], self.part))]
        importance = compute_gaussian(patch, sigma_scale=1 / 8, value_scaling_factor=10, device=torch.device("cpu"))
        self.importance = importance.view(self.patch).to(placement.results)
        self.openvino = openvino
        self.compiled: CompiledNetwork | None = None
        self.engines: set[str] = set()
        self.in_openvino = openvino is not None and openvino.pays(_views(self.windows))
        most = 1 if fidelity is Fidelity.EXACT else max(1, placement.batch_voxels // self.importance.numel())
        most = STREAMS if self.in_openvino else most
        self.batches = BatchSizes(placement.device, most)

    def _place(self, mirror_axes: Sequence[int]) -> list[Window]:
        shape, every_view = tuple(self.data.shape[1:]), self.fidelity is not Fidelity.FAST
        if not self.is_flat:
            return place_windows(shape, self.patch, mirror_axes, every_view)
        in_plane = place_windows(shape[1:], self.patch[1:], [axis - 1 for axis in mirror_axes], every_view)
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
        """Return the mean logits over all folds, (K, *part) float16, or float32 where float16 cannot hold their sums.

        Args:
            parameters: weights of each fold.

        Raises:
            ValueError: a logit is not finite, also in float32.
        """
        with fastest_convolutions(self.placement.device):
            logits = self._run(parameters, torch.float16)
            if logits is None:
                logger.info("the network's logits are too large for float16: adding them up in float32")
                logits = self._run(parameters, torch.float32)
        if logits is None:
            raise ValueError("the network's logits are too large for float32: its weights are probably damaged")
        return logits

    def _run(self, parameters: Sequence[dict[str, torch.Tensor]], kind: torch.dtype) -> torch.Tensor | None:
        """Return the mean logits over all folds; None where their sums may exceed the type's range."""
        network = self.model.network.to(self.placement.device).eval()
        outputs, shape = int(self.model.labels.num_segmentation_heads), tuple(self.data.shape[1:])
        self.logits = self.arrays.zeros((outputs, *shape), kind, self.placement.results)
        self.weights = torch.zeros(shape, dtype=kind, device=self.placement.results)
        self.largest = torch.zeros((), device=self.placement.results)
        self.done, self.total = 0, _views(self.windows) * len(parameters)
        self.fold_maps: list[torch.Tensor] = []  # label map of each fold, (*part), where there are several
        mean: torch.Tensor | None = None
        for fold, weights in enumerate(parameters):
            network.load_state_dict(weights)
            self.forward = self._forward(network, fold)
            if self.fidelity is Fidelity.FAST:
                self._run_where_something_may_be(network)
            else:
                self._add(network, self.windows)
            if self.compiled is not None:
                self.compiled.release()
            if self._too_large(float(self.weights.max())):
                return None
            logits = self.logits[(slice(None), *self.part)]
            for output in logits:
                output /= self.weights[self.part]
            if len(parameters) == 1:
                return logits
            self.fold_maps.append(fold_labels(logits, self.model.labels))
            mean = self.arrays.zeros(logits.shape, kind, self.placement.results) if mean is None else mean
            mean += logits / len(parameters)
            self.logits.zero_()
            self.weights.zero_()
        return mean

    def _forward(self, network: nn.Module, fold: int) -> Forward:
        """Return what runs windows of a fold: OpenVINO, or else the network."""
        openvino = self.openvino
        if openvino is None:
            self.engines.add("PyTorch")
            return network
        compiled = openvino.fold(fold) if self.in_openvino else None

        def forward(windows: torch.Tensor) -> torch.Tensor:
            if compiled is not None and self.in_openvino:
                try:
                    logits = compiled(windows)
                    self.engines.add("OpenVINO")
                    return logits
                except (RuntimeError, MemoryError) as error:
                    self.in_openvino = False
                    openvino.refuse(f"has failed ({in_brief(error)})")
            self.engines.add("PyTorch")
            return in_pytorch(network, windows)

        self.compiled = compiled
        return forward

    def _too_large(self, largest_weight: float) -> bool:
        """Whether sums of the logits so far may exceed what their type holds."""
        limit = LARGEST_SUM if self.logits.dtype is torch.float16 else torch.finfo(torch.float32).max / 2
        return float(self.largest) * largest_weight > limit

    def _run_where_something_may_be(self, network: nn.Module) -> None:
        """Run the first pass, and the other windows with something in their core."""
        self._add(network, [window for window in self.windows if window.is_first])
        suspicious = self._suspicious()
        others = [window for window in self.windows if not window.is_first]
        near = [w for w in others if suspicious[tuple(slice(*bounds) for bounds in w.core)].any()]
        self.total -= _views(others) - _views(near)
        self._add(network, near)

    def _box(self, window: Window) -> tuple[slice, ...]:
        spans = (slice(start, start + length) for start, length in zip(window.start, self.patch, strict=True))
        return (slice(None), *spans)

    def _suspicious(self) -> torch.Tensor:
        """Return where in the part something may be, (*S) bool, in main memory."""
        suspicious = torch.zeros_like(self.weights, dtype=torch.bool)
        rows, y, x = self.part
        for z in range(rows.start, rows.stop):  # a slice at a time, for the memory
            values = self.logits[:, z, y, x].float() / self.weights[z, y, x].float()
            background = 0.0 if self.model.labels.has_regions else values[0]
            organs = values if self.model.labels.has_regions else values[1:]
            suspicious[z, y, x] = organs.amax(0) > background - SUSPICION
        return suspicious.cpu()

    def _add(self, network: nn.Module, windows: Sequence[Window]) -> None:
        """Run windows and add up their logits; again in float32 where these are not finite."""
        finite = self._add_once(self.forward, windows, autocast(self.placement.device, self.fidelity))
        again = [window for window, is_finite in zip(windows, finite, strict=True) if not is_finite]
        if not again:
            return
        logger.info("%d of %d windows are not finite: running them again in float32", len(again), len(windows))
        self.total += _views(again)
        self.engines.add("PyTorch")
        if not all(self._add_once(partial(in_pytorch, network), again, contextlib.nullcontext())):
            raise ValueError(
                "the network's output is not finite: its weights are damaged, or the image's values are far from those "
                "that it was trained on"
            )

    def _add_once(
        self, forward: Forward, windows: Sequence[Window], arithmetic: AbstractContextManager[object]
    ) -> list[bool]:
        """Run windows and add up the logits of those whose logits are finite; return which are."""
        runs = [(window, view) for window in windows for view in window.views]
        finite: list[torch.Tensor] = []
        mean: torch.Tensor | None = None  # of the views of one window so far
        start = 0
        with arithmetic:  # around all windows, so that it converts the weights once
            while start < len(runs):
                with self.batches.take(len(runs) - start) as size:
                    batch = runs[start : start + size]
                    for (window, view), output in zip(batch, self._outputs(forward, batch), strict=True):
                        seen = (torch.flip(output, view_dims(view)) if view else output).float()
                        mean = seen if mean is None else mean.add_(seen)
                        if view == window.views[-1]:
                            finite.append(self._add_window(window, mean.div_(len(window.views))))
                            mean = None
                start += size
                self.done += size
                self.progress(self.done, self.total)
        return torch.stack(finite).tolist() if finite else []

    def _add_window(self, window: Window, logits: torch.Tensor) -> torch.Tensor:
        """Add up a window's logits, overwritten, if all are finite; return whether, without waiting for the device."""
        box = self._box(window)
        largest = torch.stack(torch.aminmax(logits)).abs().amax()
        finite = torch.isfinite(largest)
        self.largest = torch.maximum(self.largest, torch.where(finite, largest, 0))
        weighted = logits.mul_(self.importance).masked_fill_(~finite, 0)
        if self.fidelity is not Fidelity.EXACT:
            weighted = weighted.to(self.logits.dtype)  # a sum of two types takes three times as long on a CPU
        self.logits[box] += weighted
        self.weights[box[1:]] += self.importance * finite
        return finite

    def _outputs(self, forward: Forward, batch: Sequence[Run]) -> torch.Tensor:
        """Return the logits of each mirrored window, (B, K, *patch)."""
        inputs = torch.stack([torch.flip(self.data[self._box(window)], view_dims(view)) for window, view in batch])
        inputs = to_device(inputs.squeeze(2) if self.is_flat else inputs, self.placement.device)
        outputs = forward(inputs).to(self.placement.results)
        return outputs.unsqueeze(2) if self.is_flat else outputs


def _views(windows: Sequence[Window]) -> int:
    return sum(len(window.views) for window in windows)


def _overlap(one: slice, other: slice) -> bool:
    return bool(one.start < other.stop and other.start < one.stop)


def view_dims(view: Sequence[int]) -> list[int]:
    """Return the dimensions of (C, *S) to flip for a view."""
    return [axis + 1 for axis in view]
