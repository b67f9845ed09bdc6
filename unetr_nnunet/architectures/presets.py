"""UNETR's sizes and the parts of each of its variants, as data; the keys are tokens of trainer names."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class ModernViTSize:
    """How large a transformer of modern blocks is.

    Attributes:
        width: channels of a token between the blocks.
        layers: number of blocks, at least four.
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
        layers: number of transformer blocks, at least four.
        heads: attention heads; divides ``width``.
        mlp_width: hidden channels of the blocks' perceptron.
        feature_size: channels at full resolution; doubled from scale to scale.
        fpn_channels: channels of the feature pyramid below full resolution.
        modern_vit: the light transformer of the variants that have one.
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

TRANSFORMER_RATES = {"Tiny": 3e-4 / LEARNING_RATES["Tiny"]}
"""Size → rate of transformer and tokenizer as a multiple of the learning rate, where not 1.

At 8e-3 one step of AdamW is a seventh to two fifths of the linear layers' weights, and the blocks end as no-ops. Of the
rates that benchmarks/openkbp_grid.py tried beside 8e-3, 3e-4 is the best for the original; `Modified` hardly cares.
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


def modern_vit_of_equal_cost(size: UNETRSize) -> ModernViTSize:
    """Return a transformer of modern blocks that costs what the size's own costs, so that only the blocks differ.

    A gated perceptron has three matrices in place of two, so its hidden channels are two thirds.
    """
    return ModernViTSize(
        size.width, size.layers, size.heads, round(size.mlp_width * 2 / 3 / 8) * 8, size.modern_vit.drop_path
    )


@dataclass(frozen=True)
class Variant:
    """UNETR or a modification of it.

    Attributes:
        parts: those that replace the original's.
        summary: what it is, in a few words.
        own_sizes: figures that differ from those of `SIZES`.
    """

    parts: Set[str]
    summary: str
    own_sizes: Mapping[str, UNETRSize] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, UNETRSize]:
        """Its sizes by name, the default first."""
        return SIZES | dict(self.own_sizes)


_MODIFIED = frozenset({"FineTokens", "ProjectedStem", "LightViT", "AlignedSkips", "FPN"})
_MODIFIED_SIZES = {
    # at 48 x 48 x 48 voxels of 3 mm, the study of OpenKBP, a step on a CPU takes 0.52 s, the original's 0.45
    "Tiny": replace(SIZES["Tiny"], feature_size=16, fpn_channels=32)
}
ARCHITECTURES: dict[str, Variant] = {
    "original": Variant(frozenset(), "the original UNETR"),
    "CNNStem": Variant(
        frozenset({"CNNStem"}), "residual convolutional tokenizer, whose maps are the high-resolution skips"
    ),
    "ModernViT": Variant(
        frozenset({"ModernViT"}),
        "transformer of equal cost with rotary positions, LayerScale, SwiGLU, query and key norm, DropPath",
    ),
    "AlignedSkips": Variant(
        frozenset({"AlignedSkips"}), "taps aligned with their decoder scale, and gated, before fusion"
    ),
    "FPN": Variant(frozenset({"FPN"}), "top-down fusion over all scales, with deep supervision"),
    "ModifiedV1": Variant(
        frozenset({"CNNStem", "LightViT", "AlignedSkips", "FPN"}),
        "the first modified UNETR: CNNStem, a light ModernViT, AlignedSkips and FPN",
    ),
    "FineTokens": Variant(frozenset({"FineTokens"}), "the original with the finest tokens that attention can afford"),
    "ProjectedStem": Variant(frozenset({"ProjectedStem"}), "CNNStem whose finer maps are projected to the tokens too"),
    "LocalViT": Variant(
        frozenset({"ModernViT", "LocalBlocks"}), "ModernViT with a depthwise convolution in front of each block"
    ),
    "Modified": Variant(
        _MODIFIED | {"LocalBlocks"},
        "FineTokens, ProjectedStem, a light LocalViT, AlignedSkips and FPN",
        _MODIFIED_SIZES,
    ),
    "ModifiedConv": Variant(
        _MODIFIED | {"ConvBlocks"},
        "control: Modified with convolutions of equal cost in place of its transformer's blocks",
        _MODIFIED_SIZES,
    ),
}
