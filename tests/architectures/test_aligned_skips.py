import pytest
import torch

from unetr_nnunet.architectures.aligned_skips import AlignedSkips
from unetr_nnunet.architectures.token_geometry import stage_kernels, stage_strides

GRID = (1, 2, 3)


@pytest.fixture
def skips():
    torch.manual_seed(0)
    strides = stage_strides((4, 16, 16))
    return AlignedSkips(GRID, strides, stage_kernels(strides, (4.0, 1.0, 1.0)), width=10, feature_size=2)


@pytest.fixture
def taps():
    torch.manual_seed(1)
    return [torch.randn(2, 6, 10) for _ in range(4)]


def test_each_tap_comes_to_its_scale(skips, taps):
    features = [torch.randn(2, 2, 4, 32, 48)]
    maps = skips(features, taps)
    assert torch.equal(maps[0], features[0])
    assert [tuple(x.shape[1:]) for x in maps[1:]] == [(4, 4, 16, 24), (8, 4, 8, 12), (16, 2, 4, 6), (10, 1, 2, 3)]


def test_statistics_do_not_depend_on_the_taps(skips, taps):
    features = [torch.randn(2, 2, 4, 32, 48)]
    for first, second in zip(
        skips(features, taps)[1:4], skips(features, [50 * tap + 7 for tap in taps])[1:4], strict=True
    ):
        torch.testing.assert_close(first, second, rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(first.mean((2, 3, 4)), torch.zeros(first.shape[:2]), rtol=0, atol=1e-4)


def test_a_closed_gate_ignores_the_tap(skips, taps):
    features = [torch.randn(2, 2, 4, 32, 48), torch.randn(2, 4, 4, 16, 24)]
    with torch.no_grad():
        skips.alignments[0].gate.bias.fill_(-1e4)
    maps = skips(features, taps)
    assert torch.equal(maps[1], features[1])
    assert not torch.equal(maps[2], skips(features, [torch.randn(2, 6, 10) for _ in range(4)])[2])


def test_the_gate_looks_at_the_tap(skips, taps):
    with torch.no_grad():
        skips.alignments[3].gate.weight.normal_()
    tap = taps[3]
    gated = skips.alignments[3](tap)
    norm = skips.alignments[3].norm(tap)
    gate = torch.sigmoid(skips.alignments[3].gate(norm.mean(1)))
    ungated = skips.alignments[3].projection(norm.transpose(1, 2).unflatten(2, GRID))
    torch.testing.assert_close(gated, ungated * gate[..., None, None, None])
    assert gate.std(0).max() > 1e-3
