"""UNETR's sizes and the parts of each of its variants, as data; the keys are tokens of trainer names."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModernViTSize:
    """How large the light transformer is.

    Attributes:
        width: channels of a token between the blocks.
        layers: number of blocks, a multiple of four.
        heads: attention heads; divides ``width``.
        mlp_width: gated hidden channels of the blocks' perceptron.
        drop_path: probability of skipping the last block in training; it rises linearly from 0 at the first.
    """

    width: int
    layers: int
    heads: int
    mlp_width: int
    drop_path: float


@dataclass(frozen=True)
class UNETRSize:
    """How large a network is: the original UNETR's figures, and those of the parts that can replace its own.

    Attributes:
        width: channels of a token ("hidden size").
        layers: number of transformer blocks, a multiple of four.
        heads: attention heads; divides ``width``.
        mlp_width: hidden channels of the blocks' perceptron.
        feature_size: channels at full resolution; doubled from scale to scale.
        fpn_channels: channels of the feature pyramid below full resolution.
        modern_vit: the light transformer.
    """

    width: int
    layers: int
    heads: int
    mlp_width: int
    feature_size: int
    fpn_channels: int
    modern_vit: ModernViTSize


LEARNING_RATES = {"Tiny": 8e-3}
"""Size → peak learning rate of the recommended recipe, where another than the recipe's.

Narrow networks take larger steps (Yang et al., "Tensor Programs V", 2022), and runs on a CPU are short: on the demo's
phantoms the loss after 200 iterations is 0.0 at 8e-3, 0.1 at 4e-3, and far higher at 1.2e-3, from 2.8.
"""

SIZES: dict[str, UNETRSize] = {
    # Hatamizadeh et al., WACV 2022, section 4: ViT-B; feature size 16 as in the authors' code and released weights.
    # The light transformer is ViT-S of Touvron et al., ICML 2021, with eight blocks and a SwiGLU of equal cost.
    "base": UNETRSize(
        width=768,
        layers=12,
        heads=12,
        mlp_width=3072,
        feature_size=16,
        fpn_channels=48,
        modern_vit=ModernViTSize(width=384, layers=8, heads=6, mlp_width=1024, drop_path=0.2),
    ),
    # For runs on a CPU and the demo.
    "Tiny": UNETRSize(
        width=192,
        layers=4,
        heads=3,
        mlp_width=384,
        feature_size=8,
        fpn_channels=24,
        modern_vit=ModernViTSize(width=96, layers=4, heads=3, mlp_width=256, drop_path=0.0),
    ),
    # ViT-L of Dosovitskiy et al., ICLR 2021, table 1; feature size 32 as in nnU-Net's U-Nets.
    "Large": UNETRSize(
        width=1024,
        layers=24,
        heads=16,
        mlp_width=4096,
        feature_size=32,
        fpn_channels=96,
        modern_vit=ModernViTSize(width=512, layers=16, heads=8, mlp_width=1344, drop_path=0.2),
    ),
}


@dataclass(frozen=True)
class Variant:
    """UNETR or a modification of it.

    Attributes:
        parts: those that replace the original's.
        summary: what it is, in a few words.
    """

    parts: frozenset[str]
    summary: str


ARCHITECTURES: dict[str, Variant] = {
    "original": Variant(frozenset(), "the original UNETR"),
    "CNNStem": Variant(
        frozenset({"CNNStem"}), "residual convolutional tokenizer, whose maps are the high-resolution skips"
    ),
    "ModernViT": Variant(
        frozenset({"ModernViT"}),
        "light transformer: rotary positions, LayerScale, SwiGLU, query and key norm, DropPath",
    ),
    "AlignedSkips": Variant(
        frozenset({"AlignedSkips"}), "taps aligned with their decoder scale, and gated, before fusion"
    ),
    "FPN": Variant(frozenset({"FPN"}), "top-down fusion over all scales, with deep supervision"),
    "Modified": Variant(frozenset({"CNNStem", "ModernViT", "AlignedSkips", "FPN"}), "all four modifications"),
}
