"""GPU memory of a training step, predicted from the network itself on a machine that need not have a GPU.

Network, nnU-Net's loss and the backward pass run on fake tensors (torch's ``FakeTensorMode``: shapes, types and
devices, no data), and every storage that is made is counted until it is freed, as in torch's own ``MemTracker``. So the
figures follow the operations, the autocast types and the lifetimes of the real step, for any architecture.

What fake tensors do not show is added or left out as follows:

- attention runs as one fused kernel on a GPU, which keeps no matrix of weights; fake CUDA tensors would take the other
  path, so the fused operation is put in its place;
- cuDNN copies the operands of a half-precision convolution to its own layout: while it runs, input and output are
  counted twice, and on the way back the input and both gradients;
- the optimizer is AdamW: two moments for each weight, and no temporary memory in its fused form;
- not counted: the CUDA context, what the allocator loses to fragments, further workspace of cuDNN, for which
  `with_reserve` leaves room, and the buckets in which several GPUs exchange gradients, see `MemoryEstimate.exchange`.
"""

import math
import weakref
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry

from unetr_nnunet.architectures.networks import WrongOutputError
from unetr_nnunet.planning.backward import run_backward
from unetr_nnunet.planning.fake_network import NoRandomNumbers, put_on
from unetr_nnunet.planning.training_step import TrainingStep, forward_and_loss

GIB = 2**30

CONTEXT = GIB
"""Bytes kept free for the CUDA context and the libraries' own memory, which do not grow with the network."""

UNCERTAINTY = 0.10
"""Share by which the peak on a GPU may exceed the predicted one; plans leave it free too."""

RESERVE = f"{CONTEXT / GIB:g} GiB and {UNCERTAINTY:.0%}"
"""What plans keep free, for messages."""

TFLOP = 10**12

_CONVOLUTIONS = (torch.ops.aten.convolution, torch.ops.aten.convolution_backward)


class UntraceableError(ValueError):
    """A network does not run on tensors without data, so its memory cannot be predicted."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a training step takes, and what it computes.

    Attributes:
        saved_activations: what the forward pass and the loss keep for the backward pass, weights apart.
        at_peak: kind → bytes at the moment of the peak: parameters, optimizer state, gradients, saved activations, and
            workspace, which is everything else. They add up to ``peak``.
        peak: most bytes at one time.
        flop: floating-point operations of the forward and the backward pass, a multiply-add counted as two.
    """

    saved_activations: int
    at_peak: Mapping[str, int]
    peak: int
    flop: int

    @property
    def fixed(self) -> int:
        """Bytes at the peak that depend on the network alone, not on patch and batch."""
        return self.at_peak["parameters"] + self.at_peak["optimizer state"]

    @property
    def exchange(self) -> int:
        """Bytes that each of several GPUs needs on top, for DistributedDataParallel's copy of all gradients."""
        return self.at_peak["optimizer state"] // 2


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
    flop_source: str = "as given"

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


def with_reserve(peak: float) -> float:
    """Return the bytes that a GPU should have for a predicted peak."""
    return peak * (1 + UNCERTAINTY) + CONTEXT


def predict_memory(
    step: TrainingStep, device_type: str = "cuda", autocast_dtype: torch.dtype | None = torch.float16
) -> MemoryEstimate:
    """Predict the memory of a training step without running it.

    Args:
        step: what is trained.
        device_type: "cuda" or "cpu"; the machine need not have it.
        autocast_dtype: of the network's arithmetic; None for float32. nnU-Net trains in float16 on CUDA.

    Raises:
        UntraceableError: if the network cannot run on fake tensors.
        ValueError: if it cannot be built, or returns something else than its architecture says.
    """
    with torch.device("cpu"), NoRandomNumbers():
        network = step.build_network()
    try:
        return _trace(step, network, device_type, autocast_dtype)
    except WrongOutputError:
        raise
    except Exception as error:  # custom kernels, checkpointed activations, or a mistake in the network
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UntraceableError(
            f"the memory of {step.network} cannot be predicted, as it does not run on tensors without data ({reason}): "
            "give --patch-size and --batch-size, and --verify to measure a step on this machine"
        ) from error


def _trace(
    step: TrainingStep, network: nn.Module, device_type: str, autocast_dtype: torch.dtype | None
) -> MemoryEstimate:
    on_gpu = device_type == "cuda"
    tracker = _StorageTracker(convolution_copies=on_gpu)
    held: list[_Saved] = []  # by the node that is running

    def pack(tensor: torch.Tensor) -> _Saved:
        tracker.label(tensor, "saved activations")
        return _Saved(tensor)

    def unpack(saved: _Saved) -> torch.Tensor:
        held.append(saved)
        return saved.tensor

    def finished() -> None:
        while held:
            del held.pop().tensor

    gradients = {}

    def accumulate(leaf: torch.Tensor, gradient: torch.Tensor) -> None:
        gradients[leaf] = gradient
        tracker.label(gradient, "gradients")

    with FakeTensorMode(allow_non_fake_inputs=True), tracker, _FusedAttention() if on_gpu else nullcontext():
        put_on(network, device_type)
        for tensor in (*network.parameters(), *network.buffers()):
            tracker.label(tensor, "parameters")
        tracker.add("optimizer state", 2 * sum(weight.nbytes for weight in network.parameters()))
        data, target = step.make_batch(torch.device(device_type))
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            output = forward_and_loss(network, step.build_loss(), data, target, autocast_dtype)
        saved_activations = tracker.bytes_by_kind["saved activations"]
        run_backward(output[1], finished, accumulate)
    return MemoryEstimate(saved_activations, tracker.at_peak, tracker.peak, tracker.flop)


class _Saved:
    """A tensor that a node of the graph has saved."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class _FusedAttention(TorchFunctionMode):
    """Attention as a GPU runs it in half precision (Dao et al., "FlashAttention", NeurIPS 2022)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_flash_attention(*args)[0]
        return func(*args, **(kwargs or {}))


class _StorageTracker(TorchDispatchMode):
    """Counts the bytes of all storages while they live, by kind, and the operations.

    Args:
        convolution_copies: whether a convolution copies its operands.
    """

    def __init__(self, *, convolution_copies: bool) -> None:
        super().__init__()
        self.convolution_copies = convolution_copies
        self.bytes_by_kind: Counter[str] = Counter()
        self.at_peak: dict[str, int] = {}
        self.peak = 0
        self.flop = 0
        self._known: dict[int, tuple[str, int]] = {}  # storage → kind, bytes

    def add(self, kind: str, count: int) -> None:
        """Count bytes that live from now on."""
        self.bytes_by_kind[kind] += count
        self._update_peak()

    def label(self, tensor: torch.Tensor, kind: str) -> None:
        """Say what a tensor's storage is; parameters stay parameters."""
        self._track(tensor)
        key = tensor.untyped_storage()._cdata
        before, count = self._known[key]
        if before != "parameters":
            self._known[key] = kind, count
            self.bytes_by_kind[before] -= count
            self.bytes_by_kind[kind] += count

    def _track(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known[storage._cdata] = "workspace", storage.nbytes()
            weakref.finalize(storage, self._freed, storage._cdata)
            self.add("workspace", storage.nbytes())

    def _freed(self, key: int) -> None:
        kind, count = self._known.pop(key)
        self.bytes_by_kind[kind] -= count

    def _update_peak(self, passing: int = 0) -> None:
        total = self.bytes_by_kind.total() + passing
        if total > self.peak:
            self.peak = total
            self.at_peak = dict(self.bytes_by_kind)
            self.at_peak["workspace"] = self.at_peak.get("workspace", 0) + passing

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1  # "are there voxels without the ignore label?"
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._track(leaf)
        operation = func._overloadpacket
        if operation is torch.ops.aten.convolution_backward:
            self.flop += _backward_flop(*args)
        elif operation in flop_registry:
            self.flop += flop_registry[operation](*args, **(kwargs or {}), out_val=result)
        if self.convolution_copies and operation in _CONVOLUTIONS:
            backward = operation is torch.ops.aten.convolution_backward
            copied = (*args[:2], result[0]) if backward else (args[0], result)
            self._update_peak(sum(tensor.nbytes for tensor in copied if tensor is not None))
        return result


def _backward_flop(gradient: torch.Tensor, image: torch.Tensor, weight: torch.Tensor, *geometry: Any) -> int:
    """Return the operations of a convolution's backward pass: for each gradient as many as forward.

    Torch's own figure for the gradient of the weight leaves out that the channels may be in groups.
    """
    *_, transposed, _, _, mask = geometry
    return sum(mask[:2]) * conv_flop_count(list(image.shape), list(weight.shape), list(gradient.shape), transposed)
