"""UNETR: a transformer over patch tokens as the encoder of a U-shaped segmentation network.

Hatamizadeh et al., "UNETR: Transformers for 3D Medical Image Segmentation", WACV 2022,
https://arxiv.org/abs/2103.10504. Own code; the layer layout follows MONAI's UNETR so that its weights load
(`unetr_nnunet.architectures.monai_weights`).

One network class, four injected parts. A variant of the study exchanges one part and keeps the others:

- **stem**: image (B, C, *S) -> ``(tokens, image_features)``: the tokens (B, N, D) and a list of feature maps of the
  image, highest resolution first: (B, F, *S), (B, 2F, ...) and so on, at least the first. `PatchStem`, `CNNStem`, or
  `ProjectedStem`.
- **transformer**: tokens -> list of tokens (B, N, D), shallow to deep: a tap for each decoder scale but the first (with
  tokens of 16 voxels that is three), then the last output. `Transformer`, or `ModernViT`.
- **skips**: ``(image_features, taps)`` -> list of maps, highest resolution first, one for each decoder scale and last
  the map at the token grid. `DeconvolutionSkips`, or `AlignedSkips`; both add the stem's maps of lower resolution, if
  it has any, to the tap of the same scale.
- **decoder**: maps -> logits (B, K, *S). Its attribute ``deep_supervision``, which nnU-Net sets, makes a decoder with
  several outputs return them as a list, highest resolution first. `UNetDecoder` has one and ignores it; `FPN` has one a
  scale. The layers that give logits are its ``seg_layers``, as in nnU-Net's networks, whose loader of pretrained
  weights leaves out what has this name.

Shapes: B batch, C input channels, K output channels, S the patch size (Z, Y, X) or (Y, X), N tokens, D their width,
F ``feature_size``.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import nn

from unetr_nnunet.architectures.conv_blocks import Convolution, ResidualBlock, Upsampling


class UNETR(nn.Module):
    """The composed network; see the module's docstring for what each part takes and returns.

    Args:
        patch_size: spatial size S of the input.
        stem: image to tokens and image features.
        transformer: tokens to taps.
        skips: image features and taps to one map a scale.
        decoder: maps to logits.
    """

    decoder: Any  # a module with an attribute `deep_supervision`

    def __init__(
        self,
        patch_size: Sequence[int],
        stem: nn.Module,
        transformer: nn.Module,
        skips: nn.Module,
        decoder: nn.Module,
    ) -> None:
        super().__init__()
        self.patch_size = tuple(patch_size)
        self.stem = stem
        self.transformer = transformer
        self.skips = skips
        self.decoder = decoder

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Segment one batch of patches.

        Args:
            image: (B, C, *S), S the patch size the network was built for.

        Returns:
            Logits (B, K, *S); a list of logits where the decoder has deep supervision and it is switched on.

        Raises:
            ValueError: if the spatial size is another one.
        """
        if tuple(image.shape[2:]) != self.patch_size:
            raise ValueError(
                f"expected an image of spatial size {self.patch_size}, got {tuple(image.shape[2:])}: cut it into "
                "patches of that size (sliding window), or build the network for the other size"
            )
        tokens, image_features = self.stem(image)  # (B, N, D), [(B, F, *S), ...]
        taps = self.transformer(tokens)  # one for each scale below full resolution, (B, N, D)
        maps = self.skips(image_features, taps)  # one for each scale, (B, F, *S) ... (B, D, *grid)
        logits: torch.Tensor | list[torch.Tensor] = self.decoder(maps)  # (B, K, *S)
        return logits


class PatchStem(nn.Module):
    """Cut the image into tokens and project each linearly; one residual block on the image.

    The projection has a layer norm before and behind it, as in Kumar et al., "Dual PatchNorm", TMLR 2023,
    https://arxiv.org/abs/2302.01327: it is where the training of a vision transformer becomes unstable.

    Args:
        token_size: voxels of one token per axis; divides the patch size.
        in_channels: channels C of the image.
        width: channels D of a token.
        feature_size: channels F of the full-resolution features.
        normalise: whether there are those norms.
    """

    def __init__(
        self, token_size: Sequence[int], in_channels: int, width: int, feature_size: int, *, normalise: bool
    ) -> None:
        super().__init__()
        self.token_size = tuple(token_size)
        voxels = in_channels * prod(token_size)
        self.voxel_norm = nn.LayerNorm(voxels) if normalise else nn.Identity()
        self.projection = nn.Linear(voxels, width)
        self.token_norm = nn.LayerNorm(width) if normalise else nn.Identity()
        self.image_block = ResidualBlock(in_channels, feature_size, [3] * len(self.token_size))
        nn.init.trunc_normal_(self.projection.weight, std=0.02)
        nn.init.zeros_(self.projection.bias)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Map (B, C, *S) to tokens (B, N, D) and [features (B, F, *S)]."""
        patches = cut_patches(image, self.token_size)  # (B, N, C * voxels of a token)
        return self.token_norm(self.projection(self.voxel_norm(patches))), [self.image_block(image)]


def cut_patches(image: torch.Tensor, token_size: Sequence[int]) -> torch.Tensor:
    """Cut (B, C, *S) into patches (B, N, C * voxels), both N and the voxels in row-major order, channels outermost."""
    for axis, length in enumerate(token_size):
        image = image.unflatten(2 + 2 * axis, (-1, length))  # (B, C, nz, tz, ny, ty, nx, tx) in the end
    axes = range(len(token_size))
    order = (0, *(2 + 2 * axis for axis in axes), 1, *(3 + 2 * axis for axis in axes))
    image = image.permute(order)  # (B, nz, ny, nx, C, tz, ty, tx)
    return image.flatten(1 + len(token_size)).flatten(1, -2)  # (B, N, C * voxels)


class DeconvolutionSkips(nn.Module):
    """Lay the tokens out on their grid, and bring each tap to its decoder scale by a chain of transposed convolutions.

    Args:
        grid: tokens per axis.
        strides: upsampling factors of the decoder stages, highest resolution first.
        width: channels D of a token.
        feature_size: channels F at full resolution; doubled from scale to scale.
    """

    def __init__(self, grid: Sequence[int], strides: Sequence[Sequence[int]], width: int, feature_size: int) -> None:
        super().__init__()
        self.grid = tuple(grid)
        chains = []
        for scale in range(1, len(strides)):
            deep_to_fine = list(reversed(strides[scale:]))
            channels = feature_size * 2**scale
            layers: list[nn.Module] = [Upsampling(width, channels, deep_to_fine[0])]
            for stride in deep_to_fine[1:]:
                layers += [Upsampling(channels, channels, stride), ResidualBlock(channels, channels, [3] * len(grid))]
            chains.append(nn.Sequential(*layers))
        self.chains = nn.ModuleList(chains)

    def forward(self, image_features: list[torch.Tensor], taps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Map the stem's maps and taps (B, N, D) to maps of F, 2F, 4F ... D channels, the last at the token grid."""
        *taps, last = [tap.transpose(1, 2).unflatten(2, self.grid) for tap in taps]  # (B, D, *grid)
        maps = [chain(tap) for chain, tap in zip(self.chains, taps, strict=True)]  # (B, 2F, ...) ...
        return [*add_image_features(maps, image_features), last]


def add_image_features(maps: Sequence[torch.Tensor], image_features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the stem's full-resolution map, then each tap's map, plus the stem's of the same scale where it has one.

    Args:
        maps: the taps at the scales below full resolution, (B, 2F, ...), (B, 4F, ...), highest resolution first.
        image_features: the stem's maps, (B, F, *S), (B, 2F, ...), highest resolution first; at least one.
    """
    full_resolution, *coarser = image_features
    added = [tap + feature for tap, feature in zip(maps, coarser, strict=False)]
    return [full_resolution, *added, *maps[len(added) :]]


class UNetDecoder(nn.Module):
    """The expanding path of a U-Net: upsample, concatenate the skip, residual block; a 1 x 1 x 1 head at the end.

    Args:
        strides: upsampling factor of each stage, highest resolution first.
        width: channels D of the deepest map.
        feature_size: channels F at full resolution; doubled from scale to scale.
        out_channels: K, one for each label or region.
    """

    def __init__(self, strides: Sequence[Sequence[int]], width: int, feature_size: int, out_channels: int) -> None:
        super().__init__()
        self.deep_supervision = False  # set by nnU-Net; without effect here, as there is one output
        channels = [feature_size * 2**scale for scale in range(len(strides))] + [width]
        dimensions = len(strides[0])
        self.upsamplings = nn.ModuleList(
            Upsampling(channels[scale + 1], channels[scale], stride) for scale, stride in enumerate(strides)
        )
        self.blocks = nn.ModuleList(
            ResidualBlock(2 * channels[scale], channels[scale], [3] * dimensions) for scale in range(len(strides))
        )
        self.seg_layers = nn.ModuleList([Convolution(feature_size, out_channels, [1] * dimensions, bias=True)])

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Map the scales, (B, F, *S) first and (B, D, *grid) last, to logits (B, K, *S)."""
        *skips, x = maps
        for scale in reversed(range(len(skips))):
            x = torch.cat((self.upsamplings[scale](x), skips.pop()), dim=1)  # (B, 2F * 2**scale, ...)
            x = self.blocks[scale](x)  # (B, F * 2**scale, ...)
        logits: torch.Tensor = self.seg_layers[0](x)  # (B, K, *S)
        return logits
