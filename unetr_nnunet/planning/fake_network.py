"""Bring a network to fake tensors: shapes, types and devices without data, on a device that need not be there.

Many networks cannot be built on torch's meta device, because their constructors read numbers out of tensors, such as
drop rates. So they are built on the CPU, without drawing their weights, and get fake parameters and buffers afterwards.
"""

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


def put_on(network: nn.Module, device_type: str) -> None:
    """Replace parameters and buffers by fake ones; those that several modules share stay shared."""
    made: dict[int, torch.Tensor] = {}

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in made:
            empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device_type)
            is_parameter = isinstance(tensor, nn.Parameter)
            made[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
        return made[id(tensor)]

    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = fake(tensor)  # type: ignore[assignment]


class NoRandomNumbers(TorchFunctionMode):
    """Fills weights with one number where they are drawn at random, which takes most of the time of a building."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == nn.init.__name__:  # inside it this mode would be off
            weight = args[0] if args else (kwargs or {})["tensor"]
            weight.detach().zero_()
            return weight
        if func in (torch.Tensor.normal_, torch.Tensor.uniform_):
            given = [*args[1:2], *((kwargs or {}).get(name) for name in ("mean", "from"))]
            return args[0].fill_(next((number for number in given if number is not None), 0.0))
        return func(*args, **(kwargs or {}))
