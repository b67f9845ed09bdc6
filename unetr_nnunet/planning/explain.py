"""What was planned and why, in words."""

from math import prod

from unetr_nnunet.architectures.token_geometry import token_grid
from unetr_nnunet.planning.memory import UNCERTAINTY, MemoryEstimate
from unetr_nnunet.planning.patch_search import by
from unetr_nnunet.planning.sizing import GIB, MAX_SHARE_OF_DATASET, Choice

KINDS = ("parameters", "optimizer state", "saved activations", "gradients", "workspace")

NOT_MEASURED = (
    f"memory is predicted, for float16 on CUDA, not measured; {UNCERTAINTY:.0%} more are kept in reserve for what "
    "cuDNN and the allocator add (`--verify` measures a step on this machine)"
)


def summary(name: str, choice: Choice) -> str:
    """Return one line: patch, token, batch and memory of a configuration."""
    step = choice.step
    return (
        f"{name}: patch {by(step.patch_size)}, token {by(step.token_size)}, batch {step.batch_size}, "
        f"{gib(choice.estimate.peak)} predicted"
    )


def explanation(choice: Choice, spacing_source: str, gpu_memory_gib: float) -> list[str]:
    """Return the reasoning behind a configuration, line by line.

    Args:
        choice: what was chosen.
        spacing_source: where the target spacing comes from.
        gpu_memory_gib: the memory target.
    """
    step = choice.step
    grid = token_grid(step.patch_size, step.token_size)
    extent = [length * spacing for length, spacing in zip(step.token_size, step.spacing_mm, strict=True)]
    patch_mm = [length * spacing for length, spacing in zip(step.patch_size, step.spacing_mm, strict=True)]
    covered = prod(step.patch_size) / prod(choice.median_shape)
    return [
        f"  spacing  {by(step.spacing_mm, 3)} mm, {spacing_source}",
        f"  token    {by(step.token_size)} voxels = {by(extent, 1)} mm, about as thick as wide",
        f"  patch    {by(step.patch_size)} voxels = {by(patch_mm)} mm, {min(covered, 1):.0%} of the median image "
        f"({by(choice.median_shape)})",
        f"           {by(grid)} = {prod(grid)} tokens",
        f"           {_why_this_patch(choice, gpu_memory_gib)}",
        f"  batch    {step.batch_size}; {_why_this_batch(choice)}",
        f"  memory   {memory_parts(choice.estimate)}",
        f"  cost     {choice.estimate.flop / 1e9:.0f} GFLOP a step, forward and backward "
        f"({choice.estimate.flop / 1e9 / step.batch_size:.0f} for each patch)",
    ]


def memory_parts(estimate: MemoryEstimate) -> str:
    """Return the peak and its parts in one line."""
    parts = ", ".join(f"{kind} {gib(estimate.at_peak.get(kind, 0))}" for kind in KINDS)
    return f"{gib(estimate.peak)} at the peak: {parts}"


def gib(count: float) -> str:
    """Return bytes as GiB."""
    return f"{count / GIB:.2f} GiB"


def _why_this_patch(choice: Choice, gpu_memory_gib: float) -> str:
    if choice.patch_given:
        return "as you asked"
    if choice.step.patch_size == choice.largest:
        return "it covers the median image, in whole tokens"
    return (
        f"the largest with a batch of {choice.step.batch_size} in {gpu_memory_gib:g} GiB less {UNCERTAINTY:.0%} in "
        f"reserve; without the limit it would be {by(choice.largest)}"
    )


def _why_this_batch(choice: Choice) -> str:
    if choice.batch_given:
        return "as you asked"
    if choice.patch_given or choice.step.patch_size != choice.largest:
        return "memory goes to the batch only once the planned patch covers the median image"
    return f"the largest that fits; at most {choice.max_batch_size}, {MAX_SHARE_OF_DATASET:.0%} of the training voxels"
