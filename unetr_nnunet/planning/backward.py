"""Backpropagation node by node, for tensors on a device that this machine does not have.

Torch's engine refuses a graph of fake CUDA tensors where there is no CUDA device, but each node of the graph can be
called. Order and bookkeeping are the engine's own (torch/csrc/autograd/engine.cpp): a node runs once all gradients of
its outputs have arrived, the latest node of the forward pass first, and what it had saved is freed when it is done. A
test compares the memory with that of the engine, on a device that it accepts.
"""

import heapq
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import BackwardCFunction


def run_backward(
    loss: torch.Tensor, finished: Callable[[], None], accumulate: Callable[[torch.Tensor, torch.Tensor], None]
) -> None:
    """Call every node of the graph of ``loss`` with the gradients of its outputs.

    Args:
        loss: a scalar with a graph; hooks on tensors and nodes are not called.
        finished: called after each node, to free the tensors that it had saved.
        accumulate: called with each leaf, such as a parameter, and its gradient.
    """
    root: Any = loss.grad_fn
    missing = _count_edges(root)
    arrived: dict[Any, list[torch.Tensor | None]] = {root: [torch.ones_like(loss)]}
    order = itertools.count()
    ready = [(0, next(order), root)]
    with torch.no_grad():
        while ready:
            node = heapq.heappop(ready)[-1]
            gradients = arrived.pop(node)
            if hasattr(node, "variable"):
                if gradients[0] is not None:
                    accumulate(node.variable, gradients[0])
                continue
            results = _call(node, gradients)
            del gradients
            finished()
            for target, slot in reversed(node.next_functions):
                result = results.pop()
                if target is None:
                    continue
                _add(arrived.setdefault(target, [None] * len(target._input_metadata)), slot, result, target)
                del result  # each gradient is freed as soon as it has been added
                missing[target] -= 1
                if not missing[target]:
                    heapq.heappush(ready, (_priority(target), next(order), target))


def _count_edges(root: Any) -> dict[Any, int]:
    """Return how many gradients each node of the graph waits for."""
    missing: dict[Any, int] = {}
    waiting = [root]
    while waiting:
        for target, _ in waiting.pop().next_functions:
            if target is not None:
                if target not in missing:
                    waiting.append(target)
                missing[target] = missing.get(target, 0) + 1
    return missing


def _priority(node: Any) -> int:
    """Return the place in the queue: leaves first, then the latest operation of the forward pass."""
    return -(2**62) if hasattr(node, "variable") else -node._sequence_nr()


def _call(node: Any, gradients: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
    python_function = isinstance(node, BackwardCFunction)
    results = node.apply(*gradients) if python_function else node(*gradients)
    return list(results) if isinstance(results, tuple) else [results]


def _add(slots: list[torch.Tensor | None], slot: int, gradient: torch.Tensor | None, node: Any) -> None:
    """Add a gradient to what has arrived at one of a node's outputs, in that output's shape and type."""
    if gradient is None:
        return
    metadata = node._input_metadata[slot]
    if tuple(gradient.shape) != tuple(metadata.shape):  # the output was broadcast
        gradient = gradient.sum_to_size(metadata.shape)
    gradient = gradient.to(metadata.dtype)
    before = slots[slot]
    slots[slot] = gradient if before is None else before + gradient
