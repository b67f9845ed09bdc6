from typing import Any

import numpy as np
import pytest
import torch

from unetr_nnunet.trainers.seeding import no_augmentation_workers, seeded, seeded_augmenter

# batchgenerators' reading thread may trip over workers that have just been ended
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class NoisyLoader:
    """Draws from numpy's and torch's global generators, as nnU-Net's loader and its transforms do."""

    transforms = None

    def __next__(self) -> dict[str, Any]:
        return {"data": torch.rand(2), "keys": np.random.rand(2).tolist()}


def draw(workers: int, first: int, count: int, seed: int = 1) -> list[tuple[float, ...]]:
    augmenter = seeded_augmenter(NoisyLoader(), (seed, 0), first, workers, pin_memory=False)
    batches = [next(augmenter) for _ in range(count)]
    if workers:
        augmenter._finish()
    return [(*batch["data"].tolist(), *batch["keys"]) for batch in batches]


def test_batches_do_not_depend_on_the_workers() -> None:
    alone = draw(0, 0, 7)
    assert len(set(alone)) == 7
    assert draw(1, 0, 7) == alone
    assert draw(3, 0, 7) == alone


def test_a_stream_goes_on_where_it_was_stopped() -> None:
    assert draw(2, 4, 3) == draw(0, 0, 7)[4:]


def test_seeds_differ() -> None:
    assert draw(0, 0, 3, seed=1) != draw(0, 0, 3, seed=2)


def test_seeding_leaves_the_global_generators_alone() -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    with seeded(1, 2, 3):
        torch.rand(3), np.random.rand(3)
    assert (torch.rand(1), np.random.rand()) == expected


@pytest.mark.parametrize("before", [None, "7"])
def test_worker_variable_is_restored(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    import os

    monkeypatch.delenv("nnUNet_n_proc_DA", raising=False)
    if before:
        monkeypatch.setenv("nnUNet_n_proc_DA", before)
    with no_augmentation_workers():
        assert os.environ["nnUNet_n_proc_DA"] == "0"
    assert os.environ.get("nnUNet_n_proc_DA") == before
