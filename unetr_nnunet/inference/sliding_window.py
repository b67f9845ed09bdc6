"""Run a network over an image window by window, and add up its logits."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from torch import nn

from unetr_nnunet.inference.batch_sizes import BatchSizes
from unetr_nnunet.inference.certainty import fold_labels
from unetr_nnunet.inference.device import fastest_convolutions, to_device
from unetr_nnunet.inference.fidelity import Fidelity
from unetr_nnunet.inference.logit_sums import LogitSums
from unetr_nnunet.inference.memory import Arrays
from unetr_nnunet.inference.model import Model
from unetr_nnunet.inference.openvino_networks import CompiledNetwork, OpenVINONetworks, in_pytorch
from unetr_nnunet.inference.placement import Placement
from unetr_nnunet.inference.windows import Window, place_windows
from unetr_nnunet.nnunet.checkpoint import in_brief
from unetr_nnunet.trainers.precision import OneDNNConvolutions, cpu_has_bfloat16

SUSPICION = 2.0
"""With `Fidelity.FAST`, a voxel is worth a second look where an organ's logit comes this near to the background's."""

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Run = tuple[Window, tuple[int, ...]]


def arithmetic_of(device: torch.device, fidelity: Fidelity) -> AbstractContextManager[object]:
    """Return the arithmetic of a prediction: nnU-Net's; on a CPU the fastest that it has, unless it has to be exact."""
    if device.type == "cuda":
        return torch.autocast("cuda")
    if device.type == "cpu" and fidelity is not Fidelity.EXACT:
        return torch.autocast("cpu", dtype=torch.bfloat16) if cpu_has_bfloat16() else OneDNNConvolutions()
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
        self.engines: set[str] = set()
        self.in_openvino = openvino is not None and openvino.pays(_views(self.windows))
        most = 1 if fidelity is Fidelity.EXACT else max(1, placement.batch_voxels // self.importance.numel())
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
        self.sums = LogitSums(
            self.arrays.zeros((outputs, *shape), kind, self.placement.results),
            self.importance,
            self.fidelity is Fidelity.EXACT,
        )
        self.done, self.total = 0, _views(self.windows) * len(parameters)
        self.fold_maps: list[torch.Tensor] = []  # label map of each fold, (*part), where there are several
        mean: torch.Tensor | None = None
        for fold, weights in enumerate(parameters):
            network.load_state_dict(weights)
            compiled = self.openvino.fold(fold) if self.openvino and self.in_openvino else None
            if self.fidelity is Fidelity.FAST:
                self._run_where_something_may_be(network, compiled)
            else:
                self._add(network, compiled, self.windows)
            if compiled is not None:
                compiled.release()
            if self.sums.are_too_large():
                return None
            logits = self.sums.mean(self.part)
            if len(parameters) == 1:
                return logits
            self.fold_maps.append(fold_labels(logits, self.model.labels))
            mean = self.arrays.zeros(logits.shape, kind, self.placement.results) if mean is None else mean
            mean += logits / len(parameters)
            self.sums.clear()
        return mean

    def _run_where_something_may_be(self, network: nn.Module, compiled: CompiledNetwork | None) -> None:
        """Run the first pass, and the other windows with something in their core."""
        self._add(network, compiled, [window for window in self.windows if window.is_first])
        suspicious = self._suspicious()
        others = [window for window in self.windows if not window.is_first]
        near = [w for w in others if suspicious[tuple(slice(*bounds) for bounds in w.core)].any()]
        self.total -= _views(others) - _views(near)
        self._add(network, compiled, near)

    def _box(self, window: Window) -> tuple[slice, ...]:
        spans = (slice(start, start + length) for start, length in zip(window.start, self.patch, strict=True))
        return (slice(None), *spans)

    def _suspicious(self) -> torch.Tensor:
        """Return where in the part something may be, (*S) bool, in main memory."""
        suspicious = torch.zeros_like(self.sums.weights, dtype=torch.bool)
        rows, y, x = self.part
        for z in range(rows.start, rows.stop):  # a slice at a time, for the memory
            values = self.sums.logits[:, z, y, x].float() / self.sums.weights[z, y, x].float()
            background = 0.0 if self.model.labels.has_regions else values[0]
            organs = values if self.model.labels.has_regions else values[1:]
            suspicious[z, y, x] = organs.amax(0) > background - SUSPICION
        return suspicious.cpu()

    def _add(self, network: nn.Module, compiled: CompiledNetwork | None, windows: Sequence[Window]) -> None:
        """Run windows and add up their logits; again in float32 where these are not finite."""
        finite = self._add_once(network, compiled, windows, arithmetic_of(self.placement.device, self.fidelity))
        again = [window for window, is_finite in zip(windows, finite, strict=True) if not is_finite]
        if not again:
            return
        logger.info("%d of %d windows are not finite: running them again in float32", len(again), len(windows))
        self.total += _views(again)
        if not all(self._add_once(network, None, again, contextlib.nullcontext())):
            raise ValueError(
                "the network's output is not finite: its weights are damaged, or the image's values are far from those "
                "that it was trained on"
            )

    def _add_once(
        self,
        network: nn.Module,
        compiled: CompiledNetwork | None,
        windows: Sequence[Window],
        arithmetic: AbstractContextManager[object],
    ) -> list[bool]:
        """Run windows and add up the logits of those whose logits are finite; return which are."""
        runs = [(window, view) for window in windows for view in window.views]
        finite: list[torch.Tensor] = []
        with arithmetic:  # around all windows, so that it converts the weights once
            for (window, view), output in zip(runs, self._outputs(network, compiled, runs), strict=True):
                if any(window.views):
                    output = self.sums.over_views(output, view, view == window.views[0])
                if view == window.views[-1]:
                    finite.append(self.sums.add(self._box(window)[1:], output, len(window.views)))
                self.done += 1
                self.progress(self.done, self.total)
        return torch.stack(finite).tolist() if finite else []

    def _outputs(
        self, network: nn.Module, compiled: CompiledNetwork | None, runs: Sequence[Run]
    ) -> Iterator[torch.Tensor]:
        """Yield the logits of each mirrored window, (K, *patch), valid until the next are asked for."""
        done = 0
        if self.openvino and compiled and self.in_openvino:
            try:
                for output in compiled.each(self._input([run]) for run in runs):
                    self.engines.add("OpenVINO")
                    yield output.unsqueeze(1) if self.is_flat else output
                    done += 1
            except (RuntimeError, MemoryError) as error:
                self.in_openvino = False
                self.openvino.refuse(f"has failed ({in_brief(error)})")
        while done < len(runs):
            self.engines.add("PyTorch")
            with self.batches.take(len(runs) - done) as size:
                inputs = self._input(runs[done : done + size])
                outputs = in_pytorch(network, inputs) if self.openvino else network(inputs)
                outputs = outputs.to(self.placement.results)
                yield from outputs.unsqueeze(2) if self.is_flat else outputs
            done += size

    def _input(self, batch: Sequence[Run]) -> torch.Tensor:
        """Return mirrored windows, (B, C, *patch), on the network's device."""
        inputs = torch.stack(
            [torch.flip(self.data[self._box(window)], [axis + 1 for axis in view]) for window, view in batch]
        )
        return to_device(inputs.squeeze(2) if self.is_flat else inputs, self.placement.device)


def _views(windows: Sequence[Window]) -> int:
    return sum(len(window.views) for window in windows)


def _overlap(one: slice, other: slice) -> bool:
    return bool(one.start < other.stop and other.start < one.stop)
