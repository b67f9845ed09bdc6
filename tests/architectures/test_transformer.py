import pytest
import torch
from torch import nn

from unetr_nnunet.architectures.transformer import Attention, Transformer, tap_depths


@pytest.mark.parametrize(
    ("layers", "convention", "taps"),
    [(12, "paper", (3, 6, 9)), (12, "monai", (4, 7, 10)), (4, "paper", (1, 2, 3)), (24, "paper", (6, 12, 18))],
)
def test_tap_depths(layers, convention, taps):
    assert tap_depths(layers, convention) == taps


@pytest.mark.parametrize(("layers", "stages", "taps"), [(12, 3, (4, 8)), (8, 3, (3, 5)), (4, 3, (1, 3)), (4, 1, ())])
def test_fewer_stages_have_fewer_taps(layers, stages, taps):
    assert tap_depths(layers, "paper", stages) == taps


@pytest.mark.parametrize(("layers", "convention"), [(3, "paper"), (0, "paper"), (12, "late")])
def test_impossible_taps_are_refused(layers, convention):
    with pytest.raises(ValueError, match=r"take at least 4|paper"):
        tap_depths(layers, convention)


def test_attention_equals_torchs():
    torch.manual_seed(0)
    ours = Attention(width=24, heads=3)
    theirs = nn.MultiheadAttention(24, 3, bias=True, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": torch.zeros(72),
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    tokens = torch.randn(2, 10, 24)
    expected, _ = theirs(tokens, tokens, tokens)
    torch.testing.assert_close(ours(tokens), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalise_taps", [True, False])
def test_the_last_output_is_normalised_and_the_taps_where_asked_for(normalise_taps):
    blocks = [nn.Identity() for _ in range(4)]
    tokens = torch.randn(1, 5, 8) * 10
    transformer = Transformer(blocks, 8, (1, 2, 3), tokens=5, normalise_taps=normalise_taps)
    *taps, last = transformer(tokens)
    placed = tokens + transformer.positions
    normalised = nn.functional.layer_norm(placed, (8,))
    assert all(torch.equal(tap, normalised if normalise_taps else placed) for tap in taps)
    torch.testing.assert_close(last, normalised)
