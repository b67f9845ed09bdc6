import torch

from unetr_nnunet.architectures.cnn_stem import CNNStem
from unetr_nnunet.architectures.token_geometry import stage_kernels, stage_strides


def build(token_size, spacing_mm=None):
    torch.manual_seed(0)
    strides = stage_strides(token_size)
    return CNNStem(strides, stage_kernels(strides, spacing_mm), in_channels=1, width=24, feature_size=2)


def test_shapes_go_down_stride_by_stride():
    tokens, maps = build((4, 16, 16), (4.0, 1.0, 1.0))(torch.randn(2, 1, 8, 32, 48))
    assert tokens.shape == (2, 2 * 2 * 3, 24)
    assert [tuple(x.shape) for x in maps] == [
        (2, 2, 8, 32, 48),
        (2, 4, 8, 16, 24),
        (2, 8, 8, 8, 12),
        (2, 16, 4, 4, 6),
    ]


def test_thick_slices_are_not_mixed_at_full_resolution():
    stem = build((4, 16, 16), (4.0, 1.0, 1.0))
    image = torch.randn(1, 1, 8, 32, 32)
    changed = image.clone()
    changed[0, 0, 3] += torch.randn(32, 32)
    before = stem.image_convolution(image)
    assert ((stem.image_convolution(changed) - before).abs().amax((0, 1, 3, 4)) > 0).nonzero().flatten().tolist() == [3]


def test_tokens_are_in_the_grids_row_major_order():
    stem = build((16, 16, 16)).double()
    image = torch.randn(1, 1, 32, 32, 48, dtype=torch.float64)
    tokens, _ = stem(image)
    expected = stem.to_tokens(stem(image)[1][-1])[0, :, 1, 0, 2]
    torch.testing.assert_close(tokens[0, (1 * 2 + 0) * 3 + 2], torch.nn.functional.layer_norm(expected, expected.shape))
