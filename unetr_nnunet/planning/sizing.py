"""Choose token, patch and batch of one configuration within a memory and a compute budget."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

from unetr_nnunet.architectures.registry import find, load
from unetr_nnunet.architectures.token_geometry import check_token_size
from unetr_nnunet.planning.memory import (
    GIB,
    RESERVE,
    TFLOP,
    Budget,
    MemoryEstimate,
    UntraceableError,
    predict_memory,
    with_reserve,
)
from unetr_nnunet.planning.nnunet_plan import NNUNetPlan
from unetr_nnunet.planning.patch_search import (
    MIN_STEPS,
    MIN_TOKENS,
    NNUNET_MULTIPLE,
    candidate_patches,
    in_whole_tokens,
    largest_that_fits,
    sensible_tokens,
    spaced,
    tokens_that_tile,
)
from unetr_nnunet.planning.training_step import TrainingStep

MIN_BATCH_SIZE = 2

USUAL_BATCH_SIZE = {2: 12, 3: 2}
"""Axes → nnU-Net's reference batch, with which tokens are compared."""

MAX_SHARE_OF_DATASET = 0.05
"""nnU-Net's: a batch holds at most this share of the data set's voxels."""


@dataclass(frozen=True)
class Given:
    """The user's decisions; the planner chooses what is None.

    Attributes:
        patch_size: voxels per axis.
        token_size: voxels per axis of a token.
        batch_size: patches of a batch.
    """

    patch_size: tuple[int, ...] | None = None
    token_size: tuple[int, ...] | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class Choice:
    """The choice for a configuration, and what kept it from being finer or larger.

    Attributes:
        step: the training step.
        estimate: its memory and cost; None where the network cannot be traced, and patch and batch are given.
        median_shape: voxels per axis of the median image at the configuration's spacing.
        nnunet_patch: voxels per axis of the patch that nnU-Net would plan.
        max_batch_size: the largest batch that was considered.
        budget: of memory and operations.
        given: the user's decisions.
        refused: a step at nnU-Net's patch, or the given one, with the next finer token, and its estimate, if a budget
            does not allow it; if none allows even the coarsest token there, the step with that.
        patch_limit: the budget that a larger patch exceeds, "memory" or "compute", or else "image" or "nnU-Net".
        batch_limit: the budget that a larger batch exceeds, or else "data set", or "patch" if that is smaller than the
            image.
    """

    step: TrainingStep
    estimate: MemoryEstimate | None
    median_shape: tuple[float, ...]
    nnunet_patch: tuple[int, ...]
    max_batch_size: int
    budget: Budget
    given: Given
    refused: tuple[TrainingStep, MemoryEstimate] | None
    patch_limit: str
    batch_limit: str


class Sizing:
    """The choice for one kind of network, label set and GPU.

    Args:
        template: a step with the network and the labels; its sizes do not matter.
        gpu_memory_gib: memory of the GPU.
        tflop_per_step: compute budget of a step; None for twice what nnU-Net's own plan takes, or what the network
            takes at nnU-Net's patch with its coarsest tokens, where that is more.
        progress: called with each step whose memory is predicted, which takes a second or two.
    """

    def __init__(
        self,
        template: TrainingStep,
        gpu_memory_gib: float,
        tflop_per_step: float | None,
        progress: Callable[[TrainingStep], object],
    ) -> None:
        self.template = template
        self.gpu_memory_gib = gpu_memory_gib
        self.tflop_per_step = tflop_per_step
        self.progress = progress
        self._estimates: dict[TrainingStep, MemoryEstimate] = {}

    def choose(
        self,
        spacing_mm: Sequence[float],
        median_shape: Sequence[float],
        dataset_voxels: float,
        nnunet: NNUNetPlan,
        given: Given | None = None,
    ) -> Choice:
        """Return the finest token that fits at nnU-Net's patch, with it the largest patch, and for a whole image batch.

        Args:
            spacing_mm: voxel spacing per axis.
            median_shape: voxels per axis of the median image at that spacing.
            dataset_voxels: voxels of all training images.
            nnunet: nnU-Net's own plan for the same images.
            given: the user's decisions.

        Raises:
            UntraceableError: if the memory cannot be predicted, and patch and batch are not given.
            ValueError: if a budget cannot hold the smallest patch, or the given one, or the given patch and token do
                not go together, or no token tiles the patch.
        """
        given = given or Given()
        starts = self._starts(tuple(map(float, spacing_mm)), median_shape, dataset_voxels, nnunet, given)
        try:
            return self._within_budget(starts, median_shape, dataset_voxels, nnunet, given)
        except UntraceableError:
            if given.patch_size is None or given.batch_size is None:
                raise
            budget = Budget(self.gpu_memory_gib, math.inf, "not known")
            median = tuple(median_shape)
            return Choice(starts[0], None, median, nnunet.patch_size, given.batch_size, budget, given, None, "", "")

    def _within_budget(
        self,
        starts: list[TrainingStep],
        median_shape: Sequence[float],
        dataset_voxels: float,
        nnunet: NNUNetPlan,
        given: Given,
    ) -> Choice:
        budget = self._budget(nnunet, starts[0], given)
        start, refused = self._finest(starts, budget)
        patches = [start.patch_size]
        if given.patch_size is None:
            patches = candidate_patches(
                nnunet.patch_size, median_shape, start.grain, MIN_TOKENS if start.token_size else MIN_STEPS
            )
        steps = [replace(start, patch_size=patch, batch_size=given.batch_size or MIN_BATCH_SIZE) for patch in patches]
        step, patch_limit = self._largest(steps, patches.index(start.patch_size), budget)
        is_whole = all(axis >= shape for axis, shape in zip(step.patch_size, median_shape, strict=True))
        max_batch_size, batch_limit = _max_batch_size(dataset_voxels, step.patch_size), "patch"
        if is_whole and not given.patch_size and not given.batch_size:
            batches = [replace(step, batch_size=size) for size in range(max_batch_size, 1, -1)]
            step, batch_limit = self._largest(batches, len(batches) - 1, budget)
        return Choice(
            step,
            self._estimate(step),
            tuple(median_shape),
            nnunet.patch_size,
            max_batch_size,
            budget,
            given,
            refused,
            patch_limit or ("image" if is_whole else "nnU-Net"),
            batch_limit or "data set",
        )

    def _starts(
        self,
        spacing_mm: tuple[float, ...],
        median_shape: Sequence[float],
        dataset_voxels: float,
        nnunet: NNUNetPlan,
        given: Given,
    ) -> list[TrainingStep]:
        """Return a step for each token, coarsest first, at nnU-Net's patch or the given one; one without tokens."""
        starts = []
        for token in self._tokens(spacing_mm, median_shape, given):
            step = replace(self.template, spacing_mm=spacing_mm, token_size=token)
            patch = given.patch_size or in_whole_tokens(nnunet.patch_size, median_shape, step.grain)
            usual = min(USUAL_BATCH_SIZE[len(patch)], _max_batch_size(dataset_voxels, patch))
            step = replace(step, patch_size=patch, batch_size=given.batch_size or usual)
            _ = step.network  # refuses a patch that does not suit it
            starts.append(step)
        return starts

    def _tokens(
        self, spacing_mm: tuple[float, ...], median_shape: Sequence[float], given: Given
    ) -> list[tuple[int, ...]]:
        if not load(self.template.architecture).has_tokens:
            if given.token_size is not None:
                raise ValueError(f"--token-size: {find(self.template.architecture)} does not take it: leave it out")
            return [()]
        if given.token_size is not None:
            return [check_token_size(given.patch_size or given.token_size, given.token_size)]
        if given.patch_size is not None:
            return tokens_that_tile(given.patch_size, spacing_mm)
        return sensible_tokens(spacing_mm, median_shape)

    def _budget(self, nnunet: NNUNetPlan, coarsest: TrainingStep, given: Given) -> Budget:
        if self.tflop_per_step is not None:
            return Budget(self.gpu_memory_gib, self.tflop_per_step * TFLOP)
        default = NNUNET_MULTIPLE * nnunet.flop
        if given.token_size is None or given.patch_size is not None:  # else the patch can follow the token
            least = self._estimate(coarsest).flop
            if least > default:
                what = "the coarsest tokens take" if coarsest.token_size else "it takes at nnU-Net's patch"
                return Budget(self.gpu_memory_gib, least, f"what {what}, more than twice nnU-Net's own plan")
        return Budget(self.gpu_memory_gib, default, "twice what nnU-Net's own plan takes")

    def _finest(
        self, starts: list[TrainingStep], budget: Budget
    ) -> tuple[TrainingStep, tuple[TrainingStep, MemoryEstimate] | None]:
        """Return the last step before the first that exceeds the budget, and that one with its estimate."""
        chosen = starts[0]
        for start in starts:
            estimate = self._estimate(start)
            if budget.exceeded(estimate):
                return chosen, (start, estimate)
            chosen = start
        return chosen, None

    def _largest(self, steps: list[TrainingStep], first: int, budget: Budget) -> tuple[TrainingStep, str]:
        """Return the first step within the budget, and what the one before exceeds; empty if it is the first."""
        voxels = [prod(step.patch_size) * step.batch_size for step in steps]
        index = largest_that_fits(voxels, lambda place: budget.used(self._estimate(steps[place])), first)
        if index is None:
            raise ValueError(self._too_large(steps[-1], budget))
        return steps[index], budget.exceeded(self._estimate(steps[index - 1])) if index else ""

    def _estimate(self, step: TrainingStep) -> MemoryEstimate:
        if step not in self._estimates:
            self.progress(step)
            self._estimates[step] = predict_memory(step)
        return self._estimates[step]

    def _too_large(self, step: TrainingStep, budget: Budget) -> str:
        estimate = self._estimate(step)
        patch, batch_size = spaced(step.patch_size), step.batch_size
        what = f"a training step of {step.architecture}, size {step.size}, patch size {patch}, batch size {batch_size}"
        if budget.exceeded(estimate) == "compute":
            return (
                f"{what} takes {estimate.flop / TFLOP:.2g} TFLOP, more than the {budget.flop / TFLOP:.2g} of "
                "--tflop-per-step: allow more, or take a smaller --patch-size, --batch-size or --size"
            )
        return (
            f"{what} is predicted to need {estimate.peak / GIB:.1f} GiB, with {RESERVE} in reserve "
            f"{with_reserve(estimate.peak) / GIB:.1f} GiB, more than the {self.gpu_memory_gib:g} GiB of --gpu-memory "
            f"({estimate.fixed / GIB:.1f} GiB are weights and optimizer): take a smaller --patch-size, --batch-size or "
            "--size, or a larger GPU"
        )


def _max_batch_size(dataset_voxels: float, patch_size: Sequence[int]) -> int:
    return max(MIN_BATCH_SIZE, round(dataset_voxels * MAX_SHARE_OF_DATASET / prod(patch_size)))
