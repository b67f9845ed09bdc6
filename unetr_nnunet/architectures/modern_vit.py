"""`ModernViT`: a transformer with the parts that have proven themselves since UNETR.

- rotary positions along each axis, which need no table and so fit any token grid: Su et al., "RoFormer", 2021,
  https://arxiv.org/abs/2104.09864, for images Heo et al., "Rotary Position Embedding for Vision Transformer", ECCV
  2024, https://arxiv.org/abs/2403.13298 (its axial form and base of 100, here with three axes);
- LayerScale: Touvron et al., "Going deeper with Image Transformers", ICCV 2021, https://arxiv.org/abs/2103.17239;
- SwiGLU: Shazeer, "GLU Variants Improve Transformer", 2020, https://arxiv.org/abs/2002.05202;
- normalised queries and keys: Dehghani et al., "Scaling Vision Transformers to 22 Billion Parameters", ICML 2023,
  https://arxiv.org/abs/2302.05442;
- DropPath: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016, https://arxiv.org/abs/1603.09382.

LayerScale 0.1 and DropPath 0.2 are those of Wald et al., "Primus", 2025, https://arxiv.org/abs/2503.01835.
"""

from collections.abc import Sequence

import torch
from dynamic_network_architectures.building_blocks.regularization import DropPath
from torch import nn
from torch.nn import functional as F  # noqa: N812

ROTARY_BASE = 100.0
INITIAL_LAYER_SCALE = 0.1


class ModernViT(nn.Module):
    """A stack of `ModernBlock`, whose intermediate outputs are tapped and normalised.

    Args:
        blocks: the blocks, first to last, each mapping (B, N, d) to (B, N, d).
        width: channels D of a token outside.
        inner_width: channels d of a token between the blocks; where it is another, linear layers lead in and out.
        taps: after how many blocks to tap, ascending, such as (2, 4, 6).
    """

    def __init__(self, blocks: Sequence[nn.Module], width: int, inner_width: int, taps: Sequence[int]) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.blocks = nn.ModuleList(blocks)
        outputs = range(len(self.taps) + 1)
        self.norms = nn.ModuleList(nn.LayerNorm(inner_width) for _ in outputs)
        same = width == inner_width
        self.narrow = nn.Identity() if same else nn.Linear(width, inner_width)
        self.widen = nn.ModuleList(nn.Identity() if same else nn.Linear(inner_width, width) for _ in outputs)

    def forward(self, tokens: torch.Tensor) -> list[torch.Tensor]:
        """Map tokens (B, N, D) to the taps and the last output, all normalised, shallow to deep, each (B, N, D)."""
        x = self.narrow(tokens)  # (B, N, d)
        outputs = []
        for depth, block in enumerate(self.blocks, start=1):
            x = block(x)  # (B, N, d)
            if depth in self.taps:
                outputs.append(x)
        outputs.append(x)
        return [widen(norm(output)) for widen, norm, output in zip(self.widen, self.norms, outputs, strict=True)]


class RotaryPositions(nn.Module):
    """Turn pairs of channels by angles that grow with the token's place along each axis.

    Each axis has a third (of three axes; a half of two) of the pairs; pairs that are left over are not turned.

    Args:
        grid: tokens per axis.
        channels: channels of one attention head; even.
    """

    cosine: torch.Tensor
    sine: torch.Tensor

    def __init__(self, grid: Sequence[int], channels: int) -> None:
        super().__init__()
        pairs = channels // 2 // len(grid)  # for each axis
        frequencies = ROTARY_BASE ** (-torch.arange(pairs) / pairs)  # (pairs,)
        places = torch.cartesian_prod(*(torch.arange(length) for length in grid))  # (N, axes)
        angles = (places[..., None] * frequencies).flatten(1)  # (N, axes * pairs)
        angles = F.pad(angles, (0, channels // 2 - angles.shape[1]))  # (N, channels / 2)
        self.register_buffer("cosine", angles.cos().repeat(1, 2), persistent=False)  # (N, channels)
        self.register_buffer("sine", torch.cat((-angles.sin(), angles.sin()), 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, H, N, channels) to the same shape."""
        return x * self.cosine + x.roll(x.shape[-1] // 2, -1) * self.sine


class ModernAttention(nn.Module):
    """Multi-head self-attention with rotary positions, and queries and keys normalised in each head.

    Args:
        width: channels d of a token.
        heads: number of heads H; divides ``width``.
        positions: turns queries and keys.
    """

    def __init__(self, width: int, heads: int, positions: RotaryPositions) -> None:
        super().__init__()
        self.heads = heads
        self.positions = positions
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_norm = nn.LayerNorm(width // heads, bias=False)
        self.key_norm = nn.LayerNorm(width // heads, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, N, d) to (B, N, d)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, N, 3, H, d/H)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, N, d/H)
        query = self.positions(self.query_norm(query)).to(value.dtype)  # (B, H, N, d/H)
        key = self.positions(self.key_norm(key)).to(value.dtype)  # (B, H, N, d/H)
        y = F.scaled_dot_product_attention(query, key, value)  # (B, H, N, d/H)
        return self.out(y.transpose(1, 2).flatten(2))  # (B, N, d)


class SwiGLU(nn.Module):
    """Two-layer perceptron whose hidden channels are gated.

    Args:
        width: channels d of a token.
        hidden: gated hidden channels.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_and_value = nn.Linear(width, 2 * hidden)
        self.out = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, N, d) to (B, N, d)."""
        gate, value = self.gate_and_value(x).chunk(2, -1)  # each (B, N, hidden)
        return self.out(F.silu(gate) * value)  # (B, N, d)


class ModernBlock(nn.Module):
    """Pre-norm transformer block: attention, then SwiGLU, each scaled, at times dropped, and added to its input.

    Args:
        width: channels d of a token.
        heads: number of heads.
        mlp_width: hidden channels of the perceptron.
        positions: rotary positions, shared by all blocks.
        drop_path: probability with which a sample skips each half of the block in training.
    """

    def __init__(self, width: int, heads: int, mlp_width: int, positions: RotaryPositions, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = ModernAttention(width, heads, positions)
        self.scale1 = nn.Parameter(torch.full((width,), INITIAL_LAYER_SCALE))
        self.norm2 = nn.LayerNorm(width)
        self.mlp = SwiGLU(width, mlp_width)
        self.scale2 = nn.Parameter(torch.full((width,), INITIAL_LAYER_SCALE))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, N, d) to (B, N, d)."""
        x = x + self.drop_path(self.scale1 * self.attention(self.norm1(x)))
        y: torch.Tensor = x + self.drop_path(self.scale2 * self.mlp(self.norm2(x)))
        return y
