"""A model's networks in OpenVINO, whose convolutions on a CPU are faster than PyTorch's.

OpenVINO, https://docs.openvino.ai, is optional: ``pip install unetr_nnunet[openvino]``. Each fold's network is exported
by `torch.export`, then converted and compiled for windows of the model's patch size. It computes what PyTorch does, in
another order, and before it is used its logits are compared with PyTorch's.
"""

import copy
import importlib
import importlib.util
import logging
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from unetr_nnunet.inference.model import Model
from unetr_nnunet.nnunet.checkpoint import in_brief
from unetr_nnunet.trainers.precision import cpu_has_bfloat16

Forward = Callable[[torch.Tensor], torch.Tensor]
"""Maps a batch of windows (B, C, *patch) to logits (B, K, *patch)."""

LEAST_VOXELS = 2**25
"""Fewer voxels in all views of a case gain less time than exporting and compiling takes."""

STREAMS = 2
"""Windows that run side by side, each with half of the threads; more would take more memory."""

LARGEST_ERROR = {True: 0.15, False: 0.02}
"""Root mean square difference from PyTorch's logits, as a share of theirs, that is taken for rounding: with bfloat16,
where it is 0.01 to 0.04 for random weights and noise as the image, and without, where it is less than 0.001."""

logger = logging.getLogger(__name__)


def openvino_is_installed() -> bool:
    """Return whether OpenVINO can be used here."""
    return importlib.util.find_spec("openvino") is not None


class OpenVINONetworks:
    """The folds of a model, compiled in a thread of their own, and kept for the next case.

    Args:
        model: whose folds.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._compiled: dict[int, Future[Forward | None]] = {}
        self._thread = ThreadPoolExecutor(1, "openvino")
        self._lock = threading.Lock()

    def pays(self, views: int) -> bool:
        """Return whether a case is large enough; it depends on the case alone, so that its label map does, too.

        Args:
            views: of windows that are run, of one fold.
        """
        return views * prod(self._model.configuration.patch_size) >= LEAST_VOXELS

    def expect(self, voxels: int) -> None:
        """Begin to compile the first fold if a case is surely large enough, while it is being prepared.

        Args:
            voxels: at least so many are in the views of one fold.
        """
        if voxels >= LEAST_VOXELS:
            self.start(0)

    def start(self, fold: int) -> Future[Forward | None]:
        """Begin to compile a fold, unless that has begun already.

        Args:
            fold: index in the model's parameters.

        Returns:
            The network, or None where OpenVINO cannot run it, which is logged.
        """
        with self._lock:
            if fold not in self._compiled and fold < len(self._model.parameters):
                self._compiled[fold] = self._thread.submit(self._compile_or_say, fold)
            return self._compiled[min(fold, len(self._model.parameters) - 1)]

    def _compile_or_say(self, fold: int) -> Forward | None:
        try:
            return self._compile(fold)
        except Exception as error:  # whatever OpenVINO and torch.export raise about a network
            logger.info("OpenVINO cannot run this network, PyTorch does (%s)", in_brief(error))
            return None

    def _compile(self, fold: int) -> Forward | None:
        network = _shallow_copy(self._model.network)
        network.load_state_dict(self._model.parameters[fold], assign=True)
        channels, patch = len(self._model.channel_names), tuple(self._model.configuration.patch_size)
        example = torch.randn((1, channels, *patch), generator=torch.Generator().manual_seed(0))
        compiled = _compile(network, example)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=cpu_has_bfloat16()):
            expected = network(example).float()
        error = float((compiled(example) - expected).square().mean().sqrt() / expected.square().mean().sqrt())
        if not error <= LARGEST_ERROR[cpu_has_bfloat16()]:
            logger.warning(
                "OpenVINO's logits differ from PyTorch's by %.2g of their size: PyTorch runs this network", error
            )
            return None
        return compiled


def _import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would tell its makers of every use."""
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # so that it cannot be imported
    return importlib.import_module("openvino")


def _shallow_copy(network: nn.Module) -> nn.Module:
    """Return a copy that shares the weights, until others are assigned to it."""
    return copy.deepcopy(network, {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())})


def _compile(network: nn.Module, example: torch.Tensor) -> Forward:
    """Return a network in OpenVINO, for windows of the example's shape."""
    openvino = _import_openvino()
    with torch.no_grad():
        exported = torch.export.export(network, (example,), strict=False)
    converted = openvino.convert_model(exported, input=list(example.shape))
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if cpu_has_bfloat16() else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": min(STREAMS, torch.get_num_threads()),
    }
    compiled = openvino.Core().compile_model(converted, "CPU", settings)
    shape = tuple(compiled.output(0).shape)[1:]  # (K, *patch)
    queue = openvino.AsyncInferQueue(compiled)

    def keep(request: Any, target: torch.Tensor) -> None:
        target.copy_(torch.from_numpy(request.get_output_tensor().data[0]))

    queue.set_callback(keep)

    def forward(windows: torch.Tensor) -> torch.Tensor:
        logits = torch.empty((len(windows), *shape))
        for window, target in zip(windows.float().split(1), logits, strict=True):
            queue.start_async([np.ascontiguousarray(window.numpy())], target)
        queue.wait_all()
        return logits

    return forward
