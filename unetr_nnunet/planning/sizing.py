"""Choose token, patch and batch of one configuration so that its training step fills the memory target."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

from unetr_nnunet.architectures.token_geometry import stage_kernels, stage_strides
from unetr_nnunet.planning.memory import UNCERTAINTY, MemoryEstimate, predict_memory
from unetr_nnunet.planning.patch_search import (
    by,
    candidate_patches,
    largest_that_fits,
    near_isotropic_token,
    token_that_tiles,
)
from unetr_nnunet.planning.training_step import TrainingStep

MIN_BATCH_SIZE = 2
MAX_SHARE_OF_DATASET = 0.05
"""nnU-Net's: a batch holds at most this share of the data set's voxels."""

GIB = 2**30


@dataclass(frozen=True)
class Choice:
    """What was chosen for a configuration, and what it was chosen from.

    Attributes:
        step: the training step.
        estimate: its memory and cost.
        median_shape: voxels per axis of the median image at the configuration's spacing.
        largest: the largest patch that was considered.
        max_batch_size: the largest batch that was considered.
        patch_given: whether the user chose the patch.
        batch_given: whether the user chose the batch.
    """

    step: TrainingStep
    estimate: MemoryEstimate
    median_shape: tuple[float, ...]
    largest: tuple[int, ...]
    max_batch_size: int
    patch_given: bool
    batch_given: bool


class Sizing:
    """The choice for one kind of network, label set and GPU.

    Args:
        template: a step with the network and the labels; its sizes do not matter.
        gpu_memory_gib: memory of the GPU.
        progress: called with each step whose memory is predicted, which takes a second or two.
    """

    def __init__(
        self, template: TrainingStep, gpu_memory_gib: float, progress: Callable[[TrainingStep], object]
    ) -> None:
        self.template = template
        self.gpu_memory_gib = gpu_memory_gib
        self.progress = progress
        self._estimates: dict[TrainingStep, MemoryEstimate] = {}

    @property
    def budget(self) -> float:
        """Bytes that a predicted peak may have."""
        return self.gpu_memory_gib * GIB / (1 + UNCERTAINTY)

    def choose(
        self,
        spacing_mm: Sequence[float],
        median_shape: Sequence[float],
        dataset_voxels: float,
        patch_size: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> Choice:
        """Return the largest patch that fits with a batch of two, and for a whole image the largest batch.

        Args:
            spacing_mm: voxel spacing per axis.
            median_shape: voxels per axis of the median image at that spacing.
            dataset_voxels: voxels of all training images.
            patch_size: voxels per axis of the patch to take; None to choose.
            batch_size: patches of a batch to take; None to choose.

        Raises:
            ValueError: if the memory cannot hold the smallest patch, or the given one, no token tiles the given one, or
                an axis of the image is shorter than the spacing.
        """
        spacing_mm = tuple(float(length) for length in spacing_mm)
        if min(median_shape) < 1:
            raise ValueError(f"--spacing: the median image has no voxel at {by(spacing_mm, 2)} mm: take a finer one")
        if patch_size is None:
            token_size = near_isotropic_token(spacing_mm, median_shape)
            patches = candidate_patches(spacing_mm, median_shape, token_size)
        else:
            token_size = token_that_tiles(patch_size, spacing_mm)
            patches = [tuple(patch_size)]
        wanted = replace(
            self.template, spacing_mm=spacing_mm, token_size=token_size, batch_size=batch_size or MIN_BATCH_SIZE
        )
        step = self._largest([replace(wanted, patch_size=patch) for patch in patches])
        max_batch_size = max(MIN_BATCH_SIZE, round(dataset_voxels * MAX_SHARE_OF_DATASET / prod(step.patch_size)))
        if batch_size is None and patch_size is None and step.patch_size == patches[0]:
            step = self._largest([replace(step, batch_size=size) for size in range(max_batch_size, 1, -1)])
        return Choice(
            step,
            self._estimate(step),
            tuple(median_shape),
            patches[0],
            max_batch_size,
            patch_given=patch_size is not None,
            batch_given=batch_size is not None,
        )

    def _largest(self, steps: list[TrainingStep]) -> TrainingStep:
        voxels = [prod(step.patch_size) * step.batch_size for step in steps]
        index = largest_that_fits(voxels, lambda place: self._estimate(steps[place]), self.budget)
        if index is None:
            raise ValueError(self._too_large(steps[-1]))
        return steps[index]

    def _estimate(self, step: TrainingStep) -> MemoryEstimate:
        kernels = stage_kernels(stage_strides(step.token_size), step.spacing_mm)  # all that the spacing decides
        key = replace(step, spacing_mm=tuple(float(length) for kernel in kernels for length in kernel))
        if key not in self._estimates:
            self.progress(step)
            self._estimates[key] = predict_memory(step)
        return self._estimates[key]

    def _too_large(self, step: TrainingStep) -> str:
        estimate = self._estimate(step)
        patch = " ".join(str(axis) for axis in step.patch_size)
        return (
            f"a training step of {step.architecture}, size {step.size}, with patch size {patch} and batch size "
            f"{step.batch_size} is predicted to need {estimate.peak / GIB:.1f} GiB, with {UNCERTAINTY:.0%} in reserve "
            f"{estimate.peak * (1 + UNCERTAINTY) / GIB:.1f} GiB, more than the {self.gpu_memory_gib:g} GiB of "
            f"--gpu-memory ({estimate.fixed / GIB:.1f} GiB are weights and optimizer): take a smaller --patch-size, "
            "--batch-size or --size, or a larger GPU"
        )
