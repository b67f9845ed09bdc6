"""A model's networks in OpenVINO, whose convolutions on a CPU are faster than PyTorch's.

OpenVINO, https://docs.openvino.ai, is optional: ``pip install openvino``. Each fold's network is exported
by `torch.export`, then converted and compiled for windows of the model's patch size. It computes what PyTorch does, in
another order, and before it is used its logits are compared with PyTorch's.
"""

import contextlib
import copy
import importlib
import importlib.util
import logging
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from unetr_nnunet.inference.model import Model
from unetr_nnunet.nnunet.checkpoint import in_brief
from unetr_nnunet.trainers.precision import cpu_has_bfloat16

LEAST_VOXELS = 2**25
"""Fewer voxels in all views of a case gain less time than exporting and compiling takes."""

STREAMS = 2
"""Windows that run side by side, each with half of the threads; more would take more memory."""

LARGEST_ERROR = {True: 0.15, False: 0.02}
"""Difference from PyTorch's logits that is taken for rounding, see `largest_error`: with bfloat16, where it is 0.01 to
0.04 for random weights and noise as the image, and without, where it is less than 0.001."""

FLAT = 0.1
"""Logits of an output count as at least this share of all logits' size; what hardly varies has no size of its own."""

EXPORTING = threading.Lock()
"""Held while a network is exported: `torch.export` replaces functions of the whole process, so no other one may run."""

logger = logging.getLogger(__name__)


def openvino_is_installed() -> bool:
    """Return whether OpenVINO can be used here."""
    return importlib.util.find_spec("openvino") is not None


def in_pytorch(network: nn.Module, windows: torch.Tensor) -> torch.Tensor:
    """Run a network in PyTorch while no other is being exported.

    Args:
        network: the network.
        windows: (B, C, *patch).

    Returns:
        Logits, (B, K, *patch).
    """
    with EXPORTING:
        logits: torch.Tensor = network(windows)
    return logits


class CompiledNetwork:
    """A network in OpenVINO, for windows of one shape, run by one thread.

    Args:
        network: in evaluation mode.
        example: one window, (1, C, *patch).
    """

    def __init__(self, network: nn.Module, example: torch.Tensor) -> None:
        openvino = _import_openvino()
        with torch.no_grad():
            exported = torch.export.export(network, (example,), strict=False)
        streams = min(STREAMS, torch.get_num_threads())
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if cpu_has_bfloat16() else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": streams,
        }
        converted = openvino.convert_model(exported, input=list(example.shape))
        self._compiled = openvino.Core().compile_model(converted, "CPU", settings)
        self._requests = [self._compiled.create_infer_request() for _ in range(streams)]

    def each(self, windows: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Map windows (1, C, *patch) to logits (K, *patch), in their order, each valid until the next is asked for.

        The next windows are running meanwhile.
        """
        free, running = list(self._requests), deque[Any]()
        try:
            for window in windows:
                if not free:
                    yield _logits(running[0])
                    free.append(running.popleft())
                request = free.pop()
                request.start_async([np.ascontiguousarray(window.float().numpy())])
                running.append(request)
            while running:
                yield _logits(running[0])
                running.popleft()
        finally:
            for request in running:
                request.cancel()
                with contextlib.suppress(RuntimeError):  # that it was
                    request.wait()

    def release(self) -> None:
        """Give back the memory of the feature maps, until it is needed again."""
        self._compiled.release_memory()


def _logits(request: Any) -> torch.Tensor:
    """Wait for a request; return its output, which the next one that it runs overwrites."""
    request.wait()
    return torch.from_numpy(request.get_output_tensor().data[0])


class OpenVINONetworks:
    """The folds of a model, compiled in a thread of their own, and kept for the next case.

    Args:
        model: whose folds.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._compiled: dict[int, Future[CompiledNetwork | None]] = {}
        self._thread = ThreadPoolExecutor(1, "openvino")
        self._is_refused = False

    def pays(self, views: int) -> bool:
        """Return whether a case is large enough; it depends on the case alone, so that its label map does, too.

        Args:
            views: of windows that are run, of one fold.
        """
        return views * prod(self._model.configuration.patch_size) >= LEAST_VOXELS

    def expect(self, voxels: int) -> None:
        """Begin to compile the first fold, while a case is being prepared that is probably large enough.

        Args:
            voxels: about so many are in the views of one fold.
        """
        if voxels >= LEAST_VOXELS:
            self._start(0)

    def fold(self, number: int) -> CompiledNetwork | None:
        """Return a fold's network, or None where OpenVINO cannot run it; begin to compile the next fold.

        Args:
            number: index in the model's parameters.
        """
        if self._is_refused:
            return None
        compiled = self._start(number).result()
        if compiled is not None and number + 1 < len(self._model.parameters):
            self._start(number + 1)
        return compiled

    def refuse(self, reason: str) -> None:
        """Leave this model to PyTorch from now on.

        Args:
            reason: why, for the log.
        """
        if not self._is_refused:
            logger.warning("OpenVINO %s: PyTorch runs this model", reason)
        self._is_refused = True

    def _start(self, number: int) -> "Future[CompiledNetwork | None]":
        if number not in self._compiled:
            self._compiled[number] = self._thread.submit(self._compile_or_say, number)
        return self._compiled[number]

    def _compile_or_say(self, number: int) -> CompiledNetwork | None:
        if self._is_refused:
            return None
        try:
            return self._compile(number)
        except Exception as error:  # whatever OpenVINO and torch.export raise about a network
            logger.info("OpenVINO cannot run this network, PyTorch does (%s)", in_brief(error))
            self._is_refused = True
            return None

    def _compile(self, number: int) -> CompiledNetwork | None:
        network = _shallow_copy(self._model.network)
        network.load_state_dict(self._model.parameters[number], assign=True)
        channels, patch = len(self._model.channel_names), tuple(self._model.configuration.patch_size)
        example = torch.randn((1, channels, *patch), generator=torch.Generator().manual_seed(0))
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=cpu_has_bfloat16())
        with EXPORTING:
            compiled = CompiledNetwork(network, example)
            with torch.no_grad(), autocast:
                expected = network(example).float()
        error = max(largest_error(logits[None], expected) for logits in compiled.each([example]))
        if not error <= LARGEST_ERROR[cpu_has_bfloat16()]:
            logger.warning(
                "OpenVINO's logits differ from PyTorch's by %.2g of their size: PyTorch runs this model", error
            )
            self._is_refused = True
            return None
        if number == 0:
            logger.info("OpenVINO runs the network of %s, for images that are large enough", self._model.folder)
        return compiled


def largest_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the root mean square difference of the output that differs most, as a share of its logits' size.

    Args:
        found: logits (1, K, *patch).
        expected: the same.
    """
    axes = [0, *range(2, expected.dim())]
    sizes = expected.square().mean(axes).sqrt()  # (K,)
    sizes = sizes.clamp(min=FLAT * float(expected.square().mean().sqrt()))
    return float(((found - expected).square().mean(axes).sqrt() / sizes).amax())


def _import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would tell its makers of every use."""
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # so that it cannot be imported
    return importlib.import_module("openvino")


def _shallow_copy(network: nn.Module) -> nn.Module:
    """Return a copy that shares the weights, until others are assigned to it."""
    return copy.deepcopy(network, {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())})
