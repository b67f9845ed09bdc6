"""Batches that depend on a seed and their number only, not on the workers that make them.

nnU-Net's loader draws from global random number generators in worker processes that race, so no two runs agree. Here
every batch is drawn under generators seeded by (seed, batch number), and batchgenerators' MultiThreadedAugmenter hands
the batches out in order. So the batches do not depend on the number of workers, and a resumed run goes on with the
batch at which it was stopped.
"""

import contextlib
import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextlib.contextmanager
def seeded(*entropy: int) -> Iterator[None]:
    """Seed the global generators of Python, numpy and torch's CPU for a block, and restore them afterwards."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        seed_everything(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1)))
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


class SeededBatches:
    """An nnU-Net data loader whose n-th batch is always the same.

    Args:
        data_loader: an ``nnUNetDataLoader``.
        entropy: numbers that tell this stream from others, such as (seed, 0 for training or 1 for validation).
        first: number of the first batch.
        workers: number of processes that share the stream; each makes every ``workers``-th batch.
    """

    def __init__(self, data_loader: Any, entropy: tuple[int, ...], first: int, workers: int) -> None:
        self.data_loader = data_loader
        self.entropy = entropy
        self.next_batch = first
        self.workers = workers
        for transform in _all_transforms(data_loader.transforms):
            if isinstance(transform, GaussianBlurTransform):
                transform.benchmark = False  # it would choose between two kernels by how fast they are just now

    def set_thread_id(self, thread_id: int) -> None:
        """Called by the augmenter in each worker process, 0..workers-1."""
        self.next_batch += thread_id

    def __next__(self) -> dict[str, Any]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # sums over several threads round differently
        try:
            with seeded(*self.entropy, self.next_batch):
                batch: dict[str, Any] = next(self.data_loader)
        finally:
            torch.set_num_threads(threads)
        self.next_batch += max(self.workers, 1)
        return batch


def seeded_augmenter(data_loader: Any, entropy: tuple[int, ...], first: int, workers: int, pin_memory: bool) -> Any:
    """Return an iterator over `SeededBatches` made by ``workers`` processes (0: in this process)."""
    batches = SeededBatches(data_loader, entropy, first, workers)
    if workers == 0:
        return SingleThreadedAugmenter(batches, None)
    augmenter = MultiThreadedAugmenter(
        batches, None, workers, num_cached_per_queue=2, seeds=None, pin_memory=pin_memory, wait_time=0.002
    )
    augmenter._start()
    return augmenter


@contextlib.contextmanager
def no_augmentation_workers() -> Iterator[None]:
    """Let nnU-Net build its data loaders without worker processes inside this block."""
    before = os.environ.get("nnUNet_n_proc_DA")
    os.environ["nnUNet_n_proc_DA"] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ["nnUNet_n_proc_DA"]
        else:
            os.environ["nnUNet_n_proc_DA"] = before


def _all_transforms(transform: Any) -> Iterator[Any]:
    """Yield a transform and all that are nested in it."""
    yield transform
    nested = list(getattr(transform, "transforms", [])) + [t for t in [getattr(transform, "transform", None)] if t]
    for inner in nested:
        yield from _all_transforms(inner)
