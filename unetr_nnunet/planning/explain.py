"""Explain what was planned, and why."""

from math import prod

from unetr_nnunet.architectures.token_geometry import token_grid
from unetr_nnunet.planning.memory import GIB, RESERVE, TFLOP, MemoryEstimate
from unetr_nnunet.planning.patch_search import FINEST_TOKEN_MM, by
from unetr_nnunet.planning.sizing import MAX_SHARE_OF_DATASET, Choice
from unetr_nnunet.planning.training_step import TrainingStep

KINDS = ("parameters", "optimizer state", "saved activations", "gradients", "workspace")

NOT_MEASURED = (
    f"memory is predicted, for half precision on CUDA, not measured; {RESERVE} are kept in reserve for what CUDA, "
    "cuDNN and the allocator add (`--verify` measures a step on this machine)"
)

BUDGETS = {"memory": "--gpu-memory", "compute": "--tflop-per-step"}


def summary(name: str, choice: Choice) -> str:
    """Return one line: patch, token, batch, memory and operations of a configuration."""
    step, estimate = choice.step, choice.estimate
    token = f", token {by(step.token_size)}" if step.token_size else ""
    cost = "memory not predicted, as it cannot be traced"
    if estimate is not None:
        cost = f"{gib(estimate.peak)} and {tflop(estimate.flop)} a step predicted"
    return f"{name}: patch {by(step.patch_size)}{token}, batch {step.batch_size}, {cost}"


def explanation(choice: Choice, spacing_source: str) -> list[str]:
    """Return the reasoning behind a configuration, line by line.

    Args:
        choice: what was chosen.
        spacing_source: where the target spacing comes from.
    """
    step = choice.step
    patch_mm = [length * spacing for length, spacing in zip(step.patch_size, step.spacing_mm, strict=True)]
    covered = prod(step.patch_size) / prod(choice.median_shape)
    return [
        f"  spacing  {by(step.spacing_mm, 3)} mm, {spacing_source}",
        *_token_line(choice),
        f"  patch    {by(step.patch_size)} voxels = {by(patch_mm)} mm, {min(covered, 1):.0%} of the median image "
        f"({by(choice.median_shape)})",
        f"           {_in_grains(step)}",
        f"           {_why_this_patch(choice)}",
        f"  batch    {step.batch_size}; {_why_this_batch(choice)}",
        *_cost_lines(choice),
    ]


def _token_line(choice: Choice) -> list[str]:
    step = choice.step
    if not step.token_size:
        return []
    extent = [length * spacing for length, spacing in zip(step.token_size, step.spacing_mm, strict=True)]
    return [f"  token    {by(step.token_size)} voxels = {by(extent, 1)} mm; {_why_this_token(choice)}"]


def _in_grains(step: TrainingStep) -> str:
    if not step.token_size:
        return f"a multiple of {by(step.grain)}, as {step.architecture} wants it"
    grid = token_grid(step.patch_size, step.token_size)
    return f"{by(grid)} = {prod(grid)} tokens"


def _cost_lines(choice: Choice) -> list[str]:
    estimate, budget = choice.estimate, choice.budget
    if estimate is None:
        return ["  memory   not predicted, as the network cannot be traced; --verify measures a step on this machine"]
    return [
        f"  memory   {memory_parts(estimate)}",
        f"           of {gib(budget.memory)}: {budget.gpu_memory_gib:g} GiB less {RESERVE} in reserve",
        f"           with several GPUs {gib(estimate.exchange)} more on each, to exchange gradients",
        f"  compute  {tflop(estimate.flop)} a step, forward and backward, of {tflop(budget.flop)}: "
        f"{budget.flop_source}",
    ]


def memory_parts(estimate: MemoryEstimate) -> str:
    """Return the peak and its parts in one line."""
    parts = ", ".join(f"{kind} {gib(estimate.at_peak.get(kind, 0))}" for kind in KINDS)
    return f"{gib(estimate.peak)} at the peak: {parts}"


def gib(count: float) -> str:
    """Return bytes as GiB."""
    return f"{count / GIB:.2f} GiB"


def tflop(count: float) -> str:
    """Return operations as TFLOP, with two digits or more."""
    return f"{count / TFLOP:.{1 if count >= TFLOP else 2}f} TFLOP"


def _why_this_token(choice: Choice) -> str:
    if choice.given.token_size:
        return "as given"
    if choice.refused is None:
        return f"about as thick as wide; a finer one would be below {FINEST_TOKEN_MM:.1f} mm"
    step, estimate = choice.refused
    budget = choice.budget.exceeded(estimate)
    need = gib(estimate.peak) if budget == "memory" else tflop(estimate.flop)
    which = "this one" if step.token_size == choice.step.token_size else by(step.token_size)
    return (
        f"limited by {BUDGETS[budget]}: {which} would take {need} at patch {by(step.patch_size)}, batch "
        f"{step.batch_size}"
    )


def _why_this_patch(choice: Choice) -> str:
    if choice.given.patch_size:
        return "as given"
    if choice.patch_limit == "image":
        return f"it covers the median image, in whole {'tokens' if choice.step.token_size else 'steps'}"
    if choice.patch_limit == "nnU-Net":
        return (
            f"limited by nnU-Net's own patch, {by(choice.nnunet_patch)}: no more than twice its voxels are planned, "
            "since the CPU has to augment them"
        )
    return f"limited by {BUDGETS[choice.patch_limit]}; nnU-Net's own patch is {by(choice.nnunet_patch)}"


def _why_this_batch(choice: Choice) -> str:
    if choice.given.batch_size:
        return "as given"
    if choice.batch_limit == "patch":
        return "only a patch that covers the median image gets a larger one"
    if choice.batch_limit == "data set":
        return f"limited by the data set: {MAX_SHARE_OF_DATASET:.0%} of its voxels"
    return f"limited by {BUDGETS[choice.batch_limit]}"
