import pytest
import torch
from dynamic_network_architectures.architectures.primus import PrimusV3S

from unetr_nnunet.architectures.networks import network

PATCH, SPACING = (16, 16, 24), (3.0, 1.0, 1.0)


def build(**kind):
    torch.manual_seed(0)
    return network("PrimusV3", PATCH, SPACING, size="S", **kind).build(2, 3).eval()


def test_it_is_the_network_that_nnunets_trainer_builds():
    torch.manual_seed(0)
    theirs = PrimusV3S(2, 3, (8, 8, 8), PATCH).eval()
    image = torch.randn(1, 2, *PATCH)
    with torch.inference_mode():
        assert torch.equal(build()(image), theirs(image))


def test_without_transformer_each_token_is_alone():
    """Seen from the tokens, which go through the decoder as the stem has made them, positions and norm apart."""
    without = build(no_transformer=True)
    tokens = torch.randn(1, 12, 396)
    changed = tokens.clone()
    changed[:, 5] += 1
    differs = (without.eva(tokens)[0] != without.eva(changed)[0]).any(-1)[0]
    assert differs.nonzero().tolist() == [[5]]
    assert (build().eva(tokens)[0] != build().eva(changed)[0]).any(-1).all()


def test_the_token_is_fixed():
    with pytest.raises(ValueError, match=r"PrimusV3.* takes 3-D patches"):
        network("PrimusV3", (16, 16), (1.0, 1.0))
    with pytest.raises(ValueError, match=r"patch 12 x 16 x 16 is no multiple of 8 x 8 x 8"):
        network("PrimusV3", (12, 16, 16), SPACING)
