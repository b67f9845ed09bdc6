"""What the architectures have in common, and what each modification changes."""

import pytest
import torch
from torch import nn

from unetr_nnunet.architectures.build import build_unetr
from unetr_nnunet.architectures.presets import ARCHITECTURES, SIZES

PART_OF = {"CNNStem": "stem", "ModernViT": "transformer", "AlignedSkips": "skips", "FPN": "decoder"}
VARIANTS = [name for name in ARCHITECTURES if name != "original"]
SHAPES = [((16, 32, 32), None), ((8, 32, 32), (5.0, 1.0, 1.0)), ((5, 16, 32), (3.0, 1.0, 1.0)), ((32, 48), None)]


def count(module):
    return sum(value.numel() for value in module.parameters())


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.named_parameters()}


@pytest.mark.parametrize("modification", PART_OF)
def test_a_single_modification_exchanges_one_part_and_nothing_else(build_small, modification):
    original, modified = build_small((32, 32, 32)), build_small((32, 32, 32), modification)
    for part in PART_OF.values():
        theirs, ours = getattr(original, part), getattr(modified, part)
        if part == PART_OF[modification]:
            assert type(ours).__name__ == modification
            assert shapes(ours) != shapes(theirs)
        else:
            assert str(ours) == str(theirs)
            assert shapes(ours) == shapes(theirs)


def test_modified_has_all_four_parts(build_small):
    modified = build_small((32, 32, 32), "Modified")
    assert {type(getattr(modified, part)).__name__ for part in PART_OF.values()} == set(PART_OF)


@pytest.mark.parametrize("architecture", VARIANTS)
@pytest.mark.parametrize(("patch_size", "spacing_mm"), SHAPES, ids=str)
def test_logits_have_the_patchs_shape_and_every_parameter_gets_a_gradient(
    build_small, architecture, patch_size, spacing_mm
):
    network = build_small(patch_size, architecture, spacing_mm)
    network.decoder.deep_supervision = True
    logits = network(torch.randn(2, 1, *patch_size))
    logits = logits if isinstance(logits, list) else [logits]
    assert logits[0].shape == (2, 3, *patch_size)
    sum(scale.square().mean() for scale in logits).backward()
    without = [
        name for name, value in network.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0
    ]
    assert not without


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_transformer_only_the_blocks_are_missing(build_small, architecture):
    kept = shapes(build_small((16, 32, 32), architecture))
    without = shapes(build_small((16, 32, 32), architecture, transformer_blocks=False))
    assert without == {
        name: shape for name, shape in kept.items() if ".blocks." not in name or "transformer" not in name
    }
    assert len(without) < len(kept)


def test_without_transformer_a_token_does_not_see_the_others(build_small):
    network = build_small((32, 32, 32), "ModernViT", transformer_blocks=False)
    tokens = torch.randn(1, 8, 24)
    changed = tokens.clone()
    changed[0, 3] += 1
    for before, after in zip(network.transformer(tokens), network.transformer(changed), strict=True):
        assert (before != after).any(-1)[0].tolist() == [token == 3 for token in range(8)]


@pytest.mark.parametrize("architecture", VARIANTS)
def test_autocast_stays_near_float32(build_small, architecture):
    network = build_small((16, 32, 32), architecture)
    image = torch.randn(1, 1, 16, 32, 32)
    expected = network(image)
    with torch.autocast("cpu", torch.float16):
        got = network(image)
        got.float().square().mean().backward()
    assert (got - expected).abs().max() < 0.15 * expected.abs().max()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())


def test_channels_last_gives_the_same_logits(build_small):
    network = build_small((16, 32, 32), "Modified").double()
    image = torch.randn(2, 1, 16, 32, 32, dtype=torch.float64)
    last = network.to(memory_format=torch.channels_last_3d)(image.to(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(last, network(image), rtol=1e-6, atol=1e-6)


def test_modified_is_light():
    with torch.device("meta"):
        original, modified = (
            build_unetr((96, 96, 96), None, 1, 14, architecture=name) for name in ("original", "Modified")
        )
    assert count(modified) < 45e6
    assert count(modified.transformer) < count(original.transformer) / 2


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("architecture", VARIANTS)
def test_every_size_builds(size, architecture):
    with torch.device("meta"):
        network = build_unetr((48, 192, 192), (3.0, 0.76, 0.76), 1, 14, size=size, architecture=architecture)
        assert network(torch.empty(1, 1, 48, 192, 192)).shape == (1, 14, 48, 192, 192)
    blocks = [block for block in network.transformer.blocks if not isinstance(block, nn.Identity)]
    assert len(blocks) % 4 == 0
