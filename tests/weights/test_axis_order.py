from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from unetr_nnunet.architectures.build import build_unetr
from unetr_nnunet.architectures.presets import ModernViTSize, UNETRSize
from unetr_nnunet.weights.axis_order import POSITIONS, interpolate_positions, reorder_axes

PATCH = (16, 32, 48)
SIZE = UNETRSize(24, 4, 2, 24, 4, 6, ModernViTSize(12, 4, 2, 16, 0.0))


def build(patch_size):
    torch.manual_seed(0)
    network = build_unetr(patch_size, None, 2, 3, size=SIZE, token_size=(16, 16, 16)).eval()
    torch.nn.init.normal_(network.transformer.positions)
    return network


@pytest.mark.parametrize("order", list(permutations(range(3)))[1:], ids=str)
def test_the_network_does_on_a_permuted_image_what_it_did(order):
    network, permuted = build(PATCH), build([PATCH[axis] for axis in order])
    permuted.load_state_dict(reorder_axes(network.state_dict(), order, (1, 2, 3), (16, 16, 16)))
    axes = (0, 1, *(2 + axis for axis in order))
    image = torch.randn(2, 2, *PATCH)
    with torch.inference_mode():
        expected = network(image).permute(axes)
        torch.testing.assert_close(permuted(image.permute(axes)), expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.1


def test_positions_on_the_same_grid_stay():
    weights = build(PATCH).state_dict()
    got = interpolate_positions(weights, (1, 2, 3), (1, 2, 3))
    assert got.keys() == weights.keys()
    assert all(torch.equal(got[name], weights[name]) for name in weights)


@pytest.mark.parametrize("new_grid", [(3, 4, 6), (1, 8, 2), (5, 5, 5)], ids=str)
def test_positions_are_interpolated_linearly_between_token_centres(new_grid):
    grid = (2, 4, 6)
    table = np.random.default_rng(0).normal(size=(*grid, 7))
    weights = {POSITIONS: torch.from_numpy(table).flatten(0, 2)[None], "other": torch.ones(1)}
    got = interpolate_positions(weights, grid, new_grid)
    assert got[POSITIONS].shape == (1, np.prod(new_grid), 7)
    assert torch.equal(got["other"], weights["other"])
    centres = [(np.arange(new) + 0.5) * old / new - 0.5 for old, new in zip(grid, new_grid, strict=True)]
    where = np.meshgrid(*centres, indexing="ij")
    for channel in range(7):
        expected = map_coordinates(table[..., channel], where, order=1, mode="nearest")
        np.testing.assert_allclose(got[POSITIONS][0, :, channel].reshape(new_grid).numpy(), expected, atol=1e-12)
