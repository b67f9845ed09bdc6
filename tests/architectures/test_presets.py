"""What the architectures have in common, and what each modification changes."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unetr_nnunet.architectures.build import build_unetr
from unetr_nnunet.architectures.presets import ARCHITECTURES, SIZES, modern_vit_of_equal_cost

PARTS = ("stem", "transformer", "skips", "decoder")
PART_OF = {
    "CNNStem": ("stem", "CNNStem"),
    "ProjectedStem": ("stem", "ProjectedStem"),
    "ModernViT": ("transformer", "ModernViT"),
    "LocalViT": ("transformer", "ModernViT"),
    "AlignedSkips": ("skips", "AlignedSkips"),
    "FPN": ("decoder", "FPN"),
}
"""Modification → the part that it exchanges, and its class."""
VARIANTS = [name for name in ARCHITECTURES if name != "original"]
SHAPES = [((16, 32, 32), None), ((8, 32, 32), (5.0, 1.0, 1.0)), ((5, 16, 32), (3.0, 1.0, 1.0)), ((32, 48), None)]


def count(module):
    return sum(value.numel() for value in module.parameters())


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.named_parameters()}


@pytest.mark.parametrize("modification", PART_OF)
def test_a_single_modification_exchanges_one_part_and_nothing_else(build_small, modification):
    original, modified = build_small((32, 32, 32)), build_small((32, 32, 32), modification)
    for part in PARTS:
        theirs, ours = getattr(original, part), getattr(modified, part)
        if part == PART_OF[modification][0]:
            assert type(ours).__name__ == PART_OF[modification][1]
            assert shapes(ours) != shapes(theirs)
        else:
            assert str(ours) == str(theirs)
            assert shapes(ours) == shapes(theirs)


@pytest.mark.parametrize(
    ("architecture", "parts", "block"),
    [
        ("ModifiedV1", ["CNNStem", "ModernViT", "AlignedSkips", "FPN"], "ModernBlock"),
        ("Modified", ["ProjectedStem", "ModernViT", "AlignedSkips", "FPN"], "LocalBlock"),
        ("ModifiedConv", ["ProjectedStem", "ModernViT", "AlignedSkips", "FPN"], "ConvBlock"),
    ],
)
def test_the_modified_networks_have_all_parts(build_small, architecture, parts, block):
    modified = build_small((32, 32, 32), architecture)
    assert [type(getattr(modified, part)).__name__ for part in PARTS] == parts
    assert {type(each).__name__ for each in modified.transformer.blocks} == {block}


def test_fine_tokens_are_the_original_with_smaller_tokens(build_small):
    fine = build_small((32, 32, 32), "FineTokens", (1.0, 1.0, 1.0))
    assert str(fine) == str(build_small((32, 32, 32), token_size=(8, 8, 8)))


def test_the_control_of_convolutions_costs_what_the_transformer_costs():
    patch, spacing = (48, 96, 96), (3.0, 1.5, 1.5)
    counts = {}
    for architecture in ("Modified", "ModifiedConv"):
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            network = build_unetr(patch, spacing, 1, 14, architecture=architecture)
            network(torch.empty(1, 1, *patch))
        counts[architecture] = counter.get_flop_counts()["UNETR.transformer"]
    assert sum(counts["ModifiedConv"].values()) == pytest.approx(sum(counts["Modified"].values()), rel=0.02)


@pytest.mark.parametrize("size", SIZES)
def test_a_modern_transformer_alone_costs_what_it_replaces(size):
    counts = []
    for architecture in ("original", "ModernViT"):
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            network = build_unetr((32, 64, 64), None, 1, 14, architecture=architecture, size=size)
            network(torch.empty(1, 1, 32, 64, 64))
        counts.append(sum(counter.get_flop_counts()["UNETR.transformer"].values()))
    assert counts[1] == pytest.approx(counts[0], rel=0.02)
    assert modern_vit_of_equal_cost(SIZES[size]).width == SIZES[size].width


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


@pytest.mark.parametrize(
    ("patch_size", "spacing_mm"), [((96, 96, 96), (1.5, 1.5, 1.5)), ((48, 192, 192), (3.0, 0.76, 0.76))], ids=str
)
@pytest.mark.parametrize("architecture", ["ModifiedV1", "Modified"])
def test_the_modified_networks_cost_less_than_the_original(architecture, patch_size, spacing_mm):
    counts, networks = [], []
    for name in ("original", architecture):
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            networks.append(build_unetr(patch_size, spacing_mm, 1, 14, architecture=name))
            networks[-1](torch.empty(1, 1, *patch_size))
        counts.append(counter.get_total_flops())
    assert counts[1] < counts[0]
    assert count(networks[1]) < count(networks[0]) / 3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("architecture", VARIANTS)
def test_every_size_builds(size, architecture):
    with torch.device("meta"):
        network = build_unetr((48, 192, 192), (3.0, 0.76, 0.76), 1, 14, size=size, architecture=architecture)
        assert network(torch.empty(1, 1, 48, 192, 192)).shape == (1, 14, 48, 192, 192)
    assert not any(isinstance(block, nn.Identity) for block in network.transformer.blocks)
