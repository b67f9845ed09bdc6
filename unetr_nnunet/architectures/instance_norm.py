"""Instance normalisation without learned scale that is exact, and fast for channels-last maps on a CPU.

Ulyanov et al., "Instance Normalization", 2016, https://arxiv.org/abs/1607.08022. Why not torch's own, on a CPU (torch
2.15): ``F.instance_norm`` copies a channels-last map to another layout, and with one sample its gradient, and batch
norm's, is wrong where the incoming gradient has another layout than the map. The channels-last kernels of batch and
group norm add up all voxels in one float32 number, which at 96 x 96 x 96 is wrong by 1e-3. Here each row (Z, Y) of the
map is summed by itself first.
"""

from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812

EPSILON = 1e-5

_is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)  # from torch 2.7 on


def runs_cpu_kernels(x: torch.Tensor) -> bool:
    """Whether layers choose the layouts and kernels that are fast on a CPU: not in an export to another engine."""
    return x.device.type == "cpu" and not _is_exporting()


def instance_norm(x: torch.Tensor) -> torch.Tensor:
    """Normalise each channel of each sample of (B, C, *S) to zero mean and unit variance over S.

    Args:
        x: (B, C, *S) with two or three spatial axes.

    Returns:
        A tensor of the same shape, and on a CPU the same memory layout.
    """
    if not runs_cpu_kernels(x):
        return F.instance_norm(x, eps=EPSILON)
    samples = [_normalise_sample(sample) for sample in x.split(1)]  # B x (1, C, *S)
    return samples[0] if len(samples) == 1 else torch.cat(samples)


def _normalise_sample(x: torch.Tensor) -> torch.Tensor:
    """Normalise one sample (1, C, *S): batch norm of one sample is instance norm."""
    channels_last = not x.is_contiguous() and x.movedim(1, -1).is_contiguous()
    if channels_last and x.dtype in (torch.float32, torch.float64):
        return _ChannelsLastNorm.apply(x)
    return _Norm.apply(x)


class _Norm(torch.autograd.Function):
    """Torch's batch norm for one sample."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        normalised, mean, inverse_deviation = torch.native_batch_norm(x, None, None, None, None, True, 0.0, EPSILON)
        ctx.save_for_backward(x, mean, inverse_deviation)
        return normalised

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _gradient(gradient, *ctx.saved_tensors)


class _ChannelsLastNorm(torch.autograd.Function):
    """Torch's batch norm kernels for one channels-last sample, with statistics summed in two steps."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        rows = x.movedim(1, -1).flatten(0, -3).flatten(1)  # (Z * Y, X * C), a view
        means, variances = torch.batch_norm_update_stats(rows, None, None, 0.0)  # each (X * C,), over Z and Y
        means = means.view(-1, x.shape[1])  # (X, C)
        mean = means.mean(0)  # (C,)
        variance = variances.view(-1, x.shape[1]).mean(0) + means.var(0, correction=0)  # (C,), within plus between
        ctx.save_for_backward(x, mean, torch.rsqrt(variance + EPSILON))
        return torch.native_batch_norm(x, None, None, mean, variance, False, 0.0, EPSILON)[0]  # (1, C, *S)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _gradient(gradient, *ctx.saved_tensors)


def _gradient(
    gradient: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, inverse_deviation: torch.Tensor
) -> torch.Tensor:
    """Return batch norm's gradient of one sample; torch's is wrong unless gradient and sample have one layout."""
    if gradient.stride() != x.stride():
        gradient = torch.empty_like(x, dtype=gradient.dtype).copy_(gradient)
    return torch.ops.aten.native_batch_norm_backward(
        gradient, x, None, None, None, mean, inverse_deviation, True, EPSILON, [True, False, False]
    )[0]
