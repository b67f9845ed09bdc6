import numpy as np
import pytest
import torch

from unetr_nnunet.inference.logit_sums import LARGEST_SUM, LogitSums

PATCH, SHAPE = (4, 6, 6), (8, 6, 9)
BOXES = [(slice(0, 4), slice(0, 6), slice(0, 6)), (slice(3, 7), slice(0, 6), slice(3, 9))]


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sums(kind=torch.float32, exact=False):
    return LogitSums(torch.zeros((3, *SHAPE), dtype=kind), noise(*PATCH, seed=5).abs() + 0.1, exact)


def test_means_are_weighted_by_importance():
    found, windows = sums(), [noise(3, *PATCH, seed=seed) for seed in range(2)]
    total, weights = np.zeros((3, *SHAPE)), np.zeros(SHAPE)
    for box, window in zip(BOXES, windows, strict=True):
        assert bool(found.add(box, window, 1))
        total[(slice(None), *box)] += window.numpy() * found.importance.numpy()
        weights[box] += found.importance.numpy()
    inner = (slice(3, 4), slice(0, 6), slice(3, 6))  # under both
    expected = total[(slice(None), *inner)] / weights[inner]
    np.testing.assert_allclose(found.mean(inner), expected, rtol=1e-5)


def test_views_are_mirrored_back_and_averaged():
    window, found = noise(3, *PATCH), sums()
    views = [(), (0,), (1, 2)]
    for view in views:
        mirrored = torch.flip(window, [axis + 1 for axis in view])
        seen = found.over_views(mirrored.half(), view, not view)
    found.add(BOXES[0], seen, len(views))
    np.testing.assert_allclose(found.mean(BOXES[0]), window, atol=2e-3)
    assert found.over_views(window, (), True) is seen, "memory is used again"
    torch.testing.assert_close(seen, window)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_window_that_is_not_finite_adds_nothing(value):
    found, window = sums(torch.float16), noise(3, *PATCH)
    window[1, 2, 3, 3] = value
    assert not bool(found.add(BOXES[0], window, 1))
    assert not found.logits.any()
    assert not found.weights.any()


def test_sums_that_float16_cannot_hold_are_told():
    found, window = sums(torch.float16), torch.full((3, *PATCH), LARGEST_SUM / float(sums().importance.max()))
    found.add(BOXES[0], window * 0.99, 1)
    assert not found.are_too_large()
    found.add(BOXES[1], window, 1)
    assert found.are_too_large()
    found.clear()
    found.add(BOXES[0], noise(3, *PATCH), 1)
    assert not found.mean(BOXES[0]).isnan().any()


def test_exact_sums_are_rounded_once():
    window = noise(3, *PATCH)
    found = sums(torch.float16, exact=True)
    expected = np.zeros((3, *SHAPE), np.float16)
    for box in BOXES:
        found.add(box, window, 1)
        part = expected[(slice(None), *box)]
        part[:] = part.astype(np.float32) + (window * found.importance).numpy()
    np.testing.assert_array_equal(found.logits, expected)
