import pytest
import torch
from monai.networks.nets import UNETR as MonaiUNETR  # noqa: N811

from unetr_nnunet.architectures import presets
from unetr_nnunet.architectures.build import build_unetr
from unetr_nnunet.architectures.monai_weights import convert_monai_state_dict

MODERN = presets.ModernViTSize(width=12, layers=4, heads=2, mlp_width=16, drop_path=0.0)
SMALL = presets.UNETRSize(
    width=48, layers=12, heads=3, mlp_width=96, feature_size=8, fpn_channels=24, modern_vit=MODERN
)


def make_pair(patch_size, size, in_channels=1, taps="monai", proj_type="conv", strict=True):
    torch.manual_seed(0)
    monai = MonaiUNETR(
        in_channels,
        14,
        patch_size,
        feature_size=size.feature_size,
        hidden_size=size.width,
        mlp_dim=size.mlp_width,
        num_heads=size.heads,
        proj_type=proj_type,
        spatial_dims=len(patch_size),
    ).eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.SIZES, "under_test", size)
        ours = build_unetr(patch_size, None, in_channels, 14, size="under_test", taps=taps).eval()
    ours.load_state_dict(convert_monai_state_dict(monai.state_dict()), strict=strict)
    return monai, ours


def largest_difference(monai, ours, patch_size, in_channels=1):
    image = torch.randn(2 if max(patch_size) < 96 else 1, in_channels, *patch_size)
    with torch.inference_mode():
        expected, got = monai(image), ours(image)
    assert expected.std() > 0.1
    return (expected - got).abs().max().item()


@pytest.mark.parametrize("proj_type", ["conv", "perceptron"])
@pytest.mark.parametrize(
    ("patch_size", "in_channels"), [((32, 48, 64), 1), ((32, 48, 64), 3), ((48, 32), 2)], ids=["3d", "channels", "2d"]
)
def test_logits_equal_monais(patch_size, in_channels, proj_type):
    monai, ours = make_pair(patch_size, SMALL, in_channels, proj_type=proj_type)
    assert largest_difference(monai, ours, patch_size, in_channels) <= 1e-4


def test_image_block_without_shortcut():
    size = presets.UNETRSize(
        width=48, layers=12, heads=3, mlp_width=96, feature_size=2, fpn_channels=6, modern_vit=MODERN
    )
    monai, ours = make_pair((32, 32, 32), size, in_channels=2)
    assert largest_difference(monai, ours, (32, 32, 32), in_channels=2) <= 1e-4


def test_the_default_is_monais_with_the_taps_moved_and_norms():
    monai, ours = make_pair((32, 32, 32), SMALL, taps="paper", strict=False)
    assert largest_difference(monai, ours, (32, 32, 32)) > 1e-2, "the conventions must differ"
    ours.stem.voxel_norm = ours.stem.token_norm = torch.nn.Identity()
    ours.transformer.tap_norms = torch.nn.ModuleList(torch.nn.Identity() for _ in range(3))
    # MONAI's forward reads hidden_states_out[3], [6], [9]: shifted by one they are the paper's blocks 3, 6, 9.
    monai.vit.register_forward_hook(lambda _module, _inputs, output: (output[0], [None, *output[1]]))
    assert largest_difference(monai, ours, (32, 32, 32)) <= 1e-4


def test_gradients_equal_monais():
    # In float64: some gradients are zero up to rounding, as instance norm undoes the scale of what comes before it.
    monai, ours = (network.double() for network in make_pair((32, 32, 32), SMALL))
    image = torch.randn(1, 1, 32, 32, 32, dtype=torch.float64)
    target = torch.randn(1, 14, 32, 32, 32, dtype=torch.float64)
    for network in (monai, ours):
        (network(image) * target).sum().backward()
    expected = convert_monai_state_dict(
        {name: parameter.grad for name, parameter in monai.named_parameters() if parameter.grad is not None}
    )
    got = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert expected.keys() == got.keys()
    for name, gradient in got.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-6, atol=1e-6)


def test_unused_and_unknown_keys():
    monai, _ = make_pair((32, 32, 32), SMALL)
    state_dict = monai.state_dict()
    state_dict["vit.patch_embedding.cls_token"] = torch.zeros(1, 1, 48)
    state_dict["vit.blocks.3.attn.att_mat"] = torch.zeros(0)  # in TorchScript archives
    state_dict["encoder2.blocks.0.1.conv3.conv.weight"] = torch.zeros(16, 16, 1, 1, 1)  # as up to MONAI 0.8
    assert convert_monai_state_dict(state_dict).keys() == convert_monai_state_dict(monai.state_dict()).keys()
    state_dict["swinViT.patch_embed.proj.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match="swinViT"):
        convert_monai_state_dict(state_dict)
    with pytest.raises(ValueError, match="missing"):
        convert_monai_state_dict({"swinViT.patch_embed.proj.weight": torch.zeros(1)})


@pytest.mark.slow
@pytest.mark.parametrize("feature_size", [16, 32])
@pytest.mark.parametrize("patch_size", [(96, 96, 96), (48, 192, 192)], ids=str)
def test_paper_size_logits_equal_monais(patch_size, feature_size):
    size = presets.UNETRSize(
        width=768, layers=12, heads=12, mlp_width=3072, feature_size=feature_size, fpn_channels=24, modern_vit=MODERN
    )
    monai, ours = make_pair(patch_size, size)
    assert largest_difference(monai, ours, patch_size) <= 1e-4
    expected_millions = {16: 92.80, 32: 101.81}[feature_size]
    if patch_size == (96, 96, 96):
        assert sum(p.numel() for p in ours.parameters()) / 1e6 == pytest.approx(expected_millions, abs=0.03)
