"""One step of the optimiser, outside the trainer, so that a measurement runs exactly what a training runs.

Nothing in a step waits for the device: what is not finite is masked there, by the gradient scaler's own mechanism.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn


def optimisation_step(
    network: nn.Module,
    loss: Callable[[Any, Any], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    data: torch.Tensor,
    target: Any,
    *,
    max_norm: float,
    scaler: torch.amp.GradScaler | None = None,
    autocast_dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Update the weights with one batch, unless its loss or a gradient is not finite; then leave them as they are.

    Args:
        network: from images (B, C, *S) to logits (B, K, *S), or a list of them with deep supervision. It may be
            compiled or wrapped for several GPUs; all ranks then skip the same steps.
        loss: takes float32 logits and the target.
        optimizer: of the network's parameters. One that is neither fused nor under a scaler waits for the device.
        data: images (B, C, *S) on the network's device.
        target: label maps (B, 1, *S), or a list of them, highest resolution first.
        max_norm: gradients are scaled down to this norm.
        scaler: of the loss, for float16; None where the gradients need none.
        autocast_dtype: of the network's arithmetic; None for that of its weights.

    Returns:
        The loss, and the norm of the unscaled gradients before clipping, which is not finite where the weights were
        left as they are. Both are scalars on the device, and detached.
    """
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(data.device.type, autocast_dtype) if autocast_dtype else nullcontext():
        output = network(data)
    value = loss(in_float32(output), target)
    # An infinite loss can have finite gradients. Times NaN they are not, on all GPUs once they are averaged.
    checked = value * (1 + 0 * value.detach())
    (checked if scaler is None else scaler.scale(checked)).backward()
    if scaler is not None:
        scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), max_norm)
    if scaler is None:
        _step_if_finite(optimizer, norm)
    else:
        scaler.step(optimizer)
        scaler.update()
    return value.detach(), norm


def in_float32(output: Any) -> Any:
    """Return a network's logits, or its list of them, in float32; what is neither stays as it is."""
    if isinstance(output, list | tuple):
        return [in_float32(scale) for scale in output]
    return output.float() if isinstance(output, torch.Tensor) else output


def _step_if_finite(optimizer: torch.optim.Optimizer, norm: torch.Tensor) -> None:
    """Step as ``torch.amp.GradScaler.step`` does: fused optimisers read on the device whether to change anything."""
    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        if torch.isfinite(norm):
            optimizer.step()
        return
    optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        del optimizer.found_inf  # type: ignore[attr-defined]
