import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unetr_nnunet.architectures import presets
from unetr_nnunet.architectures.build import build_unetr, size_of

MODERN = presets.ModernViTSize(width=12, layers=4, heads=2, mlp_width=16, drop_path=0.0)
SMALL = presets.UNETRSize(width=12, layers=4, heads=2, mlp_width=24, feature_size=2, fpn_channels=6, modern_vit=MODERN)
SHAPES = [(32, 48, 32), (14, 32, 32), (5, 16, 32), (7, 20, 40), (32, 48), (56, 40)]


@pytest.fixture(autouse=True)
def small_preset(monkeypatch):
    monkeypatch.setitem(presets.SIZES, "small", SMALL)


def build_small(patch_size, **changes):
    torch.manual_seed(0)
    arguments = {"in_channels": 1, "out_channels": 3, "size": "small"} | changes
    return build_unetr(patch_size, None, **arguments)


@pytest.mark.parametrize("in_channels", [1, 2, 4])
@pytest.mark.parametrize("patch_size", SHAPES, ids=str)
def test_logits_have_the_patchs_shape(patch_size, in_channels):
    network = build_small(patch_size, in_channels=in_channels)
    assert network(torch.randn(2, in_channels, *patch_size)).shape == (2, 3, *patch_size)


@given(st.lists(st.builds(lambda k, pools: k * 2**pools, st.integers(4, 7), st.integers(0, 3)), min_size=2, max_size=3))
@settings(max_examples=15)
def test_every_planned_patch_size_builds_and_runs(patch_size):
    presets.SIZES["small"] = SMALL
    with torch.inference_mode():
        assert build_small(patch_size)(torch.randn(1, 1, *patch_size)).shape == (1, 3, *patch_size)


@pytest.mark.parametrize("taps", ["paper", "monai"])
@pytest.mark.parametrize("patch_size", [(14, 32, 32), (32, 48)], ids=str)
def test_every_parameter_gets_a_gradient(patch_size, taps):
    network = build_small(patch_size, taps=taps)
    network(torch.randn(2, 1, *patch_size)).square().mean().backward()
    without = [
        name for name, value in network.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0
    ]
    assert not without


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_stays_near_float32(dtype):
    network = build_small((16, 32, 32))
    image = torch.randn(1, 1, 16, 32, 32)
    expected = network(image)
    with torch.autocast("cpu", dtype):
        got = network(image)
    assert got.dtype == dtype
    assert (got - expected).abs().max() < 0.1 * expected.abs().max()
    if dtype == torch.float16:  # torch's bfloat16 convolutions go backward wrongly on a CPU, see `training_autocast`
        got.float().square().mean().backward()
        assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def logits_and_gradients(network, image):
    logits = network(image)
    return logits, torch.autograd.grad(logits.square().sum(), list(network.parameters()))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    ("patch_size", "layout"),
    [((16, 32, 32), torch.channels_last_3d), ((32, 48), torch.channels_last)],
    ids=["3d", "2d"],
)
def test_channels_last_gives_the_same_logits_and_gradients(patch_size, layout, batch):
    network = build_small(patch_size).double()
    image = torch.randn(batch, 1, *patch_size, dtype=torch.float64)
    expected = logits_and_gradients(network, image)
    got = logits_and_gradients(network.to(memory_format=layout), image.to(memory_format=layout))
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


def test_float64_gradients_match_finite_differences():
    network = build_small((4, 16, 16)).double()
    image = torch.randn(1, 1, 4, 16, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, image, fast_mode=True, atol=1e-4)


def test_deep_supervision_is_settable_and_without_effect():
    network = build_small((16, 16, 16))
    assert network.decoder.deep_supervision is False
    network.decoder.deep_supervision = True
    assert network(torch.randn(1, 1, 16, 16, 16)).shape == (1, 3, 16, 16, 16)


def test_another_image_size_is_refused():
    network = build_small((16, 32, 32))
    with pytest.raises(ValueError, match=r"expected .*\(16, 32, 32\), got \(32, 32, 32\)"):
        network(torch.randn(1, 1, 32, 32, 32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_size": (16, 16, 16)}, r"nearest valid token size: \(2, 16, 16\)"),
        ({"size": "Huge"}, "base, Tiny, Large"),
        ({"taps": "ours"}, "paper"),
    ],
)
def test_wrong_arguments_name_the_remedy(changes, message):
    with pytest.raises(ValueError, match=message):
        build_small((14, 32, 32), **changes)


def test_spacing_must_have_the_patchs_axes():
    with pytest.raises(ValueError, match="spacing_mm"):
        build_unetr((16, 16, 16), (1.0, 1.0), 1, 2, size="small")


def test_explicit_token_and_feature_size():
    network = build_small((16, 32, 32), token_size=(4, 16, 16), feature_size=4)
    assert network.stem.token_size == (4, 16, 16)
    assert network.decoder.seg_layers[0].weight.shape[1] == 4
    assert network(torch.randn(1, 1, 16, 32, 32)).shape == (1, 3, 16, 32, 32)


def test_tokens_see_their_own_voxels_only():
    network = build_small((32, 32, 32))
    image = torch.zeros(1, 1, 32, 32, 32)
    before, _ = network.stem(image)
    image[0, 0, 20, 3, 31] = 1.0  # token (1, 0, 1) of the 2 x 2 x 2 grid
    after, _ = network.stem(image)
    changed = (after - before).abs().sum(-1)[0] > 0
    assert changed.tolist() == [index == 5 for index in range(8)]


@pytest.mark.parametrize("size", ["base", "Tiny", "Large"])
def test_presets_build(size):
    with torch.device("meta"):
        network = build_unetr((48, 192, 192), (3.0, 0.76, 0.76), 1, 14, size=size)
        assert network(torch.empty(1, 1, 48, 192, 192)).shape == (1, 14, 48, 192, 192)


FIELDS = {"width": 24, "layers": 4, "heads": 2, "mlp_width": 24, "feature_size": 2, "fpn_channels": 6}
MODERN_FIELDS = {"width": 12, "layers": 4, "heads": 2, "mlp_width": 16, "drop_path": 0.0}


def test_a_size_of_ones_own():
    size = size_of(FIELDS | {"modern_vit": MODERN_FIELDS})
    network = build_unetr((16, 32, 32), None, 1, 3, token_size=(4, 16, 16), taps="monai", size=size)
    assert network.stem.token_size == (4, 16, 16)
    assert network.stem.projection.weight.shape[0] == 24
    assert network.transformer.taps == (2, 3, 4)


@pytest.mark.parametrize("size", [{"width": 24}, {"modern_vit": {}}, FIELDS | {"modern_vit": MODERN_FIELDS, "x": 1}])
def test_an_edited_size_in_plans_is_refused(size):
    with pytest.raises(ValueError, match="the plans' size is no preset's name and not complete"):
        size_of(size)


def test_a_patch_that_only_tiny_tokens_divide_is_refused_with_better_ones():
    message = r"\(2, 2, 2\) voxels at most, which makes 42875 tokens: .* such as \(64, 64, 64\) or \(72, 72, 72\)"
    with pytest.raises(ValueError, match=message):
        build_unetr((70, 70, 70), (1.0, 1.0, 1.0), 1, 2, architecture="Modified", size="Tiny")


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match="'modified': choose one of original, CNNStem"):
        build_small((16, 32, 32), architecture="modified")


@pytest.mark.parametrize("architecture", ["original", "LocalViT", "Modified"])
def test_a_single_layer_serves_a_single_stage(architecture):
    size = size_of(FIELDS | {"layers": 1, "modern_vit": MODERN_FIELDS | {"layers": 1}})
    network = build_unetr((4, 4, 4), None, 1, 3, architecture=architecture, token_size=(2, 2, 2), size=size)
    assert network.transformer.taps == ()
    assert network(torch.randn(1, 1, 4, 4, 4)).shape == (1, 3, 4, 4, 4)
