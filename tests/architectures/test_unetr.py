import pytest
import torch

from unetr_nnunet.architectures.unetr import DeconvolutionSkips, PatchStem, UNetDecoder, add_image_features, cut_patches

STRIDES = ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))


def test_patches_are_the_images_blocks_in_row_major_order():
    image = torch.randn(2, 3, 4, 6, 8)
    patches = cut_patches(image, (2, 3, 4))
    assert patches.shape == (2, 2 * 2 * 2, 3 * 24)
    expected = image[1, :, 2:4, 0:3, 4:8].flatten()  # block (1, 0, 1) of the 2 x 2 x 2 grid
    assert torch.equal(patches[1, 5], expected)


def test_the_projection_has_a_norm_before_and_behind_it():
    stem = PatchStem((2, 4, 4), in_channels=2, width=6, feature_size=3, normalise=True)
    image = 50 * torch.randn(1, 2, 4, 8, 8) + 7
    norm = torch.nn.functional.layer_norm
    expected = norm(stem.projection(norm(cut_patches(image, (2, 4, 4)), (64,))), (6,))
    torch.testing.assert_close(stem(image)[0], expected)
    torch.testing.assert_close(stem(3 * image - 100)[0], expected, rtol=1e-3, atol=1e-4)


def test_the_raw_stem_is_a_strided_convolution():
    stem = PatchStem((2, 4, 4), in_channels=2, width=6, feature_size=3, normalise=False)
    image = torch.randn(1, 2, 4, 8, 8)
    tokens, (features,) = stem(image)
    weight = stem.projection.weight.view(6, 2, 2, 4, 4)
    expected = torch.nn.functional.conv3d(image, weight, stem.projection.bias, stride=(2, 4, 4))
    torch.testing.assert_close(tokens, expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)
    assert features.shape == (1, 3, 4, 8, 8)


def test_skips_have_the_decoders_shapes_and_take_the_stems_maps_in():
    skips = DeconvolutionSkips((1, 2, 2), STRIDES, width=6, feature_size=2)
    taps = [torch.randn(1, 4, 6) for _ in range(4)]
    sizes = [(4, 32, 32), (4, 16, 16), (4, 8, 8), (2, 4, 4), (1, 2, 2)]
    stem_maps = [torch.randn(1, 2 * 2**scale, *size) for scale, size in enumerate(sizes[:4])]
    plain, fused = skips(stem_maps[:1], taps), skips(stem_maps, taps)
    channels = (2, 4, 8, 16, 6)
    assert [tuple(x.shape[1:]) for x in plain] == [(count, *size) for count, size in zip(channels, sizes, strict=True)]
    for scale in (1, 2, 3):
        torch.testing.assert_close(fused[scale], plain[scale] + stem_maps[scale])
    assert torch.equal(fused[4], plain[4])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_image_features_are_added_where_there_are_any(count):
    taps = [torch.ones(1), torch.ones(1)]
    features = [torch.full((1,), 10.0), torch.full((1,), 20.0), torch.full((1,), 30.0)][:count]
    expected = [10.0, 21.0 if count > 1 else 1.0, 31.0 if count > 2 else 1.0]
    assert [value.item() for value in add_image_features(taps, features)] == expected


def test_the_decoder_depends_on_every_scale():
    torch.manual_seed(0)
    decoder = UNetDecoder(STRIDES, width=6, feature_size=2, out_channels=3)
    sizes = [(4, 32, 32), (4, 16, 16), (4, 8, 8), (2, 4, 4), (1, 2, 2)]
    channels = (2, 4, 8, 16, 6)
    maps = [torch.randn(1, count, *size) for count, size in zip(channels, sizes, strict=True)]
    logits = decoder(list(maps))
    assert logits.shape == (1, 3, 4, 32, 32)
    for scale in range(5):
        changed = [x + torch.randn_like(x) if index == scale else x for index, x in enumerate(maps)]
        assert not torch.equal(decoder(changed), logits)
