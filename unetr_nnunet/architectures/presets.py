"""The sizes of the original UNETR, as data. Keys of `SIZES` are the size tokens of trainer names."""

from dataclasses import dataclass


@dataclass(frozen=True)
class UNETRSize:
    """How large a UNETR is.

    Attributes:
        width: channels of a token ("hidden size").
        layers: number of transformer blocks, a multiple of four.
        heads: attention heads; divides ``width``.
        mlp_width: hidden channels of the blocks' perceptron.
        feature_size: decoder channels at full resolution; doubled from scale to scale.
    """

    width: int
    layers: int
    heads: int
    mlp_width: int
    feature_size: int


SIZES: dict[str, UNETRSize] = {
    # Hatamizadeh et al., WACV 2022, section 4: ViT-B; feature size 16 as in the authors' code and released weights.
    "base": UNETRSize(width=768, layers=12, heads=12, mlp_width=3072, feature_size=16),
    # For runs on a CPU and the demo.
    "Tiny": UNETRSize(width=192, layers=4, heads=3, mlp_width=384, feature_size=8),
    # ViT-L of Dosovitskiy et al., ICLR 2021, table 1; feature size 32 as in nnU-Net's U-Nets.
    "Large": UNETRSize(width=1024, layers=24, heads=16, mlp_width=4096, feature_size=32),
}
