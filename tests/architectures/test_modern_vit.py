import pytest
import torch
from torch import nn

from unetr_nnunet.architectures.modern_vit import ModernAttention, ModernBlock, ModernViT, RotaryPositions, SwiGLU


def test_rotary_angles_are_those_of_the_formula():
    positions = RotaryPositions((2, 3), 8)  # two axes with two pairs each; base 100: frequencies 1 and 0.1
    x = torch.randn(1, 1, 6, 8)
    turned = positions(x)
    for token, (row, column) in enumerate((row, column) for row in range(2) for column in range(3)):
        for pair, angle in enumerate((row * 1.0, row * 0.1, column * 1.0, column * 0.1)):
            value = torch.complex(x[0, 0, token, pair], x[0, 0, token, pair + 4])
            expected = value * torch.exp(torch.tensor(1j * angle))
            got = torch.complex(turned[0, 0, token, pair], turned[0, 0, token, pair + 4])
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("grid", [(3, 4), (2, 3, 4)], ids=str)
def test_similarity_depends_on_the_distance_only(grid):
    positions = RotaryPositions(grid, 16)
    query, key = torch.randn(16), torch.randn(16)
    tokens = torch.tensor(grid).prod()
    similarity = positions(query.expand(1, 1, tokens, 16))[0, 0] @ positions(key.expand(1, 1, tokens, 16))[0, 0].T
    places = torch.cartesian_prod(*(torch.arange(length) for length in grid))
    by_distance: dict[tuple[int, ...], list[torch.Tensor]] = {}
    for first in range(tokens):
        for second in range(tokens):
            distance = tuple((places[first] - places[second]).tolist())
            by_distance.setdefault(distance, []).append(similarity[first, second])
    for values in by_distance.values():
        torch.testing.assert_close(torch.stack(values), values[0].expand(len(values)), rtol=1e-4, atol=1e-4)
    assert torch.stack([values[0] for values in by_distance.values()]).std() > 0.1


def test_left_over_channels_are_not_turned():
    x = torch.randn(1, 1, 8, 10)  # five pairs: one for each of three axes, two left over
    turned = RotaryPositions((2, 2, 2), 10)(x)
    assert torch.equal(turned[..., 3:5], x[..., 3:5])
    assert torch.equal(turned[..., 8:], x[..., 8:])


def test_attention_on_one_position_equals_torchs():
    torch.manual_seed(0)
    ours = ModernAttention(24, 3, RotaryPositions((1, 1, 1), 8))
    theirs = nn.MultiheadAttention(24, 3, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": torch.zeros(72),
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    tokens = torch.randn(2, 1, 24)
    torch.testing.assert_close(ours(tokens), theirs(tokens, tokens, tokens)[0], rtol=1e-4, atol=1e-5)


def test_attention_does_not_depend_on_the_scale_of_queries_and_keys():
    attention = ModernAttention(24, 3, RotaryPositions((2, 2), 8))
    tokens = torch.randn(1, 4, 24)
    expected = attention(tokens)
    with torch.no_grad():
        attention.qkv.weight[:48] *= 100
    torch.testing.assert_close(attention(tokens), expected, rtol=1e-3, atol=1e-4)


def test_swiglu_is_the_papers_formula():
    mlp = SwiGLU(4, 6)
    x = torch.randn(2, 3, 4)
    gate, value = nn.functional.linear(x, mlp.gate_and_value.weight, mlp.gate_and_value.bias).split(6, -1)
    torch.testing.assert_close(mlp(x), mlp.out(gate * torch.sigmoid(gate) * value))


def test_a_dropped_block_is_skipped_in_training_only():
    block = ModernBlock(12, 2, 16, RotaryPositions((2, 2), 6), drop_path=1 - 1e-9)
    x = torch.randn(3, 4, 12)
    assert torch.equal(block.train()(x), x)
    assert not torch.equal(block.eval()(x), x)


def test_taps_and_last_output_are_normalised_then_widened():
    vit = ModernViT([nn.Identity() for _ in range(4)], 8, 4, (1, 2, 3))
    tokens = 100 * torch.randn(1, 5, 8)
    outputs = vit(tokens)
    inner = nn.functional.layer_norm(vit.narrow(tokens), (4,))
    assert len(outputs) == 4
    for output, widen in zip(outputs, vit.widen, strict=True):
        torch.testing.assert_close(output, widen(inner))


def test_tokens_of_the_blocks_width_are_not_projected():
    vit = ModernViT([nn.Identity() for _ in range(4)], 8, 8, (1, 2, 3))
    tokens = 100 * torch.randn(1, 5, 8)
    assert all(torch.equal(output, nn.functional.layer_norm(tokens, (8,))) for output in vit(tokens))
