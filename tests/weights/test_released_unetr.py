import pytest
import torch
from monai.networks.nets import UNETR

from tests.weights.monai_unetr import (
    HEADS,
    LAYOUT_NAMES,
    WINDOW,
    in_layout,
    make_unetr,
    tensors_of_layout,
)
from unetr_nnunet.architectures.monai_weights import used_tensors
from unetr_nnunet.architectures.presets import SIZES
from unetr_nnunet.weights.released_unetr import expected_shapes, recognise

PAPER = {"in_channels": 1, "out_channels": 14, "feature_size": 16, "width": 768, "mlp_width": 3072, "tokens": 216}


@pytest.fixture(scope="module")
def weights():
    return make_unetr().state_dict()


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_expected_tensors_are_those_of_each_monai_version(layout):
    every = {name: torch.empty(shape, device="meta") for name, shape in tensors_of_layout(layout).items()}
    used = {name: tuple(tensor.shape) for name, tensor in used_tensors(every).items()}
    assert used == expected_shapes(**PAPER, projection=layout.split("-")[1])


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_sizes_come_from_the_tensors(weights, layout):
    released = recognise(in_layout(weights, layout), "file.pth", heads=HEADS, window=WINDOW)
    assert (released.in_channels, released.out_channels, released.grid) == (1, 14, (2, 3, 4))
    size = released.size
    assert (size.width, size.layers, size.heads, size.mlp_width, size.feature_size) == (48, 12, HEADS, 64, 4)
    assert sum(tensor.numel() for tensor in released.weights.values()) == sum(
        tensor.numel() for tensor in used_tensors(weights).values()
    )


def test_the_paper_s_model_needs_no_options(monkeypatch):
    monkeypatch.setattr(torch, "isfinite", lambda tensor: torch.ones(1, dtype=torch.bool))  # meta tensors hold nothing
    every = {name: torch.empty(shape, device="meta") for name, shape in tensors_of_layout("0.6.0-perceptron").items()}
    released = recognise(every, "file.pth")
    assert released.size == SIZES["base"]
    assert released.grid == (6, 6, 6)


@pytest.mark.parametrize("in_channels", [2, 4])
def test_other_channels(in_channels):
    # 4 is also the feature size, where the image block has no shortcut
    released = recognise(
        make_unetr(in_channels=in_channels, out_channels=3).state_dict(), "file", heads=HEADS, window=WINDOW
    )
    assert (released.in_channels, released.out_channels) == (in_channels, 3)


OTHER_NETWORKS = {
    "no convolutional blocks": ({"conv_block": False}, r"9 missing: .*3 unknown: encoder2\.blocks\.0\.conv\.weight"),
    "no residual blocks": ({"res_block": False}, r"missing: encoder1\.layer\.conv3\.conv\.weight"),
    "learned norm": ({"norm_name": ("instance", {"affine": True})}, r"unknown: encoder1\.layer\.norm1\.weight"),
    "biased qkv": ({"qkv_bias": True}, r"12 unknown: vit\.blocks\.0\.attn\.qkv\.bias, .* and 9 more"),
    "2-D": (
        {"spatial_dims": 2, "window": WINDOW[:2]},
        r"of another shape: .*patch_embeddings\.weight \(48, 1, 16, 16\) instead of \(48, 1, 16, 16, 16\)",
    ),
}


@pytest.mark.parametrize("name", OTHER_NETWORKS)
def test_other_networks_are_refused_by_their_tensors(name):
    changes, fact = OTHER_NETWORKS[name]
    with pytest.raises(
        ValueError, match=rf"file\.pth holds no UNETR that can be imported; .*{fact}.*res_block=True"
    ) as error:
        recognise(make_unetr(**changes).state_dict(), "file.pth", heads=HEADS, window=WINDOW)
    assert "\n" not in str(error.value)


def test_a_tensor_too_many_too_few_or_of_another_shape(weights):
    name = "vit.blocks.3.mlp.linear2.weight"
    with pytest.raises(ValueError, match=r"1 unknown: swinViT\.w\."):
        recognise({**weights, "swinViT.w": torch.zeros(3)}, "file", heads=HEADS, window=WINDOW)
    with pytest.raises(ValueError, match=rf"1 missing: {name}\."):
        recognise({key: w for key, w in weights.items() if key != name}, "file", heads=HEADS, window=WINDOW)
    with pytest.raises(ValueError, match=rf"1 of another shape: {name} \(48, 65\) instead of \(48, 64\)\."):
        recognise({**weights, name: torch.zeros(48, 65)}, "file", heads=HEADS, window=WINDOW)
    with pytest.raises(ValueError, match="of another shape"):
        recognise({**weights, "vit.norm.weight": torch.tensor(1.0)}, "file", heads=HEADS, window=WINDOW)
    with pytest.raises(ValueError, match=r"165 missing: .* and 162 more; 1 unknown: w"):
        recognise({"w": torch.zeros(1)}, "file")


def test_weights_that_are_not_finite(weights):
    broken = {**weights, "out.conv.conv.bias": torch.full((14,), torch.nan)}
    with pytest.raises(ValueError, match=r"file holds NaN or infinite weights in out\.conv\.conv\.bias"):
        recognise(broken, "file", heads=HEADS, window=WINDOW)


def test_heads_are_not_guessed(weights):
    with pytest.raises(ValueError, match=r"48 channels, and weights do not show the number.*--heads"):
        recognise(weights, "file", window=WINDOW)
    for heads in (5, 0, -4):
        with pytest.raises(ValueError, match=f"--heads {heads} does not divide the 48 channels"):
            recognise(weights, "file", heads=heads, window=WINDOW)


def test_the_window_is_not_guessed(weights):
    with pytest.raises(ValueError, match=r"24 tokens, which do not fill a cube.*--window X Y Z"):
        recognise(weights, "file", heads=HEADS)
    for window in ((32, 48, 60), (32, 48, 48), (-32, -48, 64), (0, 48, 64)):
        with pytest.raises(ValueError, match=rf"--window {window[0]} {window[1]} {window[2]} does not fit file"):
            recognise(weights, "file", heads=HEADS, window=window)


def test_the_installed_monai_is_among_the_layouts():
    network = UNETR(1, 14, (32, 32, 32), hidden_size=48, num_heads=4)
    assert any(network.state_dict().keys() == tensors_of_layout(layout).keys() for layout in LAYOUT_NAMES)
