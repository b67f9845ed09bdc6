import pytest
import torch

from unetr_nnunet.architectures.projected_stem import ProjectedStem
from unetr_nnunet.architectures.token_geometry import stage_kernels, stage_strides


def build(token_size, in_channels=1):
    torch.manual_seed(0)
    strides = stage_strides(token_size)
    kernels = stage_kernels(strides, (16.0, 1.0, 1.0)[: len(token_size)])
    return ProjectedStem(strides, kernels, in_channels, width=6, feature_size=2)


@pytest.mark.parametrize(
    ("token_size", "maps"),
    [
        ((8, 8, 8), [(2, 16, 32, 32), (4, 8, 16, 16), (8, 4, 8, 8)]),
        ((4, 16, 16), [(2, 16, 32, 32), (4, 16, 16, 16), (8, 16, 8, 8), (16, 8, 4, 4)]),
        ((2, 2, 2), [(2, 16, 32, 32)]),
    ],
    ids=str,
)
def test_the_decoder_gets_every_map(token_size, maps):
    tokens, features = build(token_size, in_channels=3)(torch.randn(2, 3, 16, 32, 32))
    grid = torch.tensor([16, 32, 32]) // torch.tensor(token_size)
    assert tokens.shape == (2, grid.prod(), 6)
    assert [tuple(each.shape[1:]) for each in features] == maps


def test_the_maps_in_between_are_projected_to_the_tokens_as_a_strided_convolution():
    stem = build((8, 16, 16)).double()
    image = torch.randn(1, 1, 16, 32, 48, dtype=torch.float64)
    maps = stem.maps(image)
    expected = stem.to_tokens(maps[-1])
    for projection, each, patch in zip(stem.projections, maps[1:3], [(8, 8, 8), (4, 4, 4)], strict=True):
        weight = projection.weight.unflatten(1, (each.shape[1], *patch))
        expected = expected + torch.nn.functional.conv3d(each, weight, stride=patch)
    expected = torch.nn.functional.layer_norm(expected.flatten(2).transpose(1, 2), (6,))
    torch.testing.assert_close(stem(image)[0], expected)


def test_two_dimensions():
    tokens, features = build((8, 8))(torch.randn(2, 1, 16, 32))
    assert tokens.shape == (2, 8, 6)
    assert [tuple(each.shape) for each in features] == [(2, 2, 16, 32), (2, 4, 8, 16), (2, 8, 4, 8)]
