"""The transformer of the original UNETR: pre-norm blocks with full self-attention over all tokens of the patch.

After Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, https://arxiv.org/abs/2010.11929, as used by
Hatamizadeh et al., WACV 2022, https://arxiv.org/abs/2103.10504. Like the authors' code, the query, key and value
projections have no bias. There only the last output is normalised; here every tap is, so that a decoder whose maps have
unit statistics can weigh it. ``taps="monai"`` leaves that out, as weights trained with MONAI's code need it.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class Attention(nn.Module):
    """Multi-head self-attention.

    Args:
        width: channels D of a token.
        heads: number of heads; divides ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, N, D) to (B, N, D)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, N, 3, H, D/H)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, N, D/H)
        y = F.scaled_dot_product_attention(query, key, value)  # (B, H, N, D/H)
        return self.out(y.transpose(1, 2).flatten(2))  # (B, N, D)


class Block(nn.Module):
    """Pre-norm transformer block: attention, then a two-layer perceptron with GELU, each added to its input.

    Args:
        width: channels D of a token.
        heads: number of heads.
        mlp_width: hidden channels of the perceptron.
    """

    def __init__(self, width: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_width), nn.GELU(), nn.Linear(mlp_width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, N, D) to (B, N, D)."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Learned positions, then a stack of blocks whose intermediate outputs are tapped.

    Args:
        blocks: the blocks, first to last, each mapping (B, N, D) to (B, N, D).
        width: channels D of a token.
        taps: after how many blocks to tap, ascending, such as (3, 6, 9).
        tokens: number N of tokens; each place has a learned position.
        normalise_taps: whether each tap has a norm, and not the last output alone.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], width: int, taps: Sequence[int], tokens: int, *, normalise_taps: bool
    ) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(1, tokens, width))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.blocks = nn.ModuleList(blocks)
        self.tap_norms = nn.ModuleList(nn.LayerNorm(width) if normalise_taps else nn.Identity() for _ in taps)
        self.norm = nn.LayerNorm(width)
        self.taps = tuple(taps)

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that are not to be decayed, as timm's models do."""
        return {"positions"}

    def forward(self, tokens: torch.Tensor) -> list[torch.Tensor]:
        """Map tokens (B, N, D) to the taps and the normalised last output, shallow to deep, each (B, N, D)."""
        tokens = tokens + self.positions  # (B, N, D)
        outputs: list[torch.Tensor] = []
        for depth, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)  # (B, N, D)
            if depth in self.taps:
                outputs.append(self.tap_norms[len(outputs)](tokens))
        return [*outputs, self.norm(tokens)]


def tap_depths(layers: int, convention: str, stages: int = 4) -> tuple[int, ...]:
    """Return after how many blocks the skips are tapped: one fewer than there are decoder stages.

    Args:
        layers: number of blocks, at least one for each stage.
        convention: ``"paper"`` taps at 1/4, 2/4 and 3/4 of the depth of four stages (blocks 3, 6, 9 of 12);
            ``"monai"`` one block later (4, 7, 10), as MONAI's code and so every checkpoint trained with it does.
        stages: of the decoder.

    Raises:
        ValueError: on another convention or fewer layers than stages.
    """
    if convention not in ("paper", "monai"):
        raise ValueError(f'taps {convention!r} must be "paper" (blocks 3, 6, 9 of 12) or "monai" (blocks 4, 7, 10)')
    if layers < stages:
        raise ValueError(f"{layers} layers cannot be tapped for {stages} stages: take at least {stages}")
    later = 1 if convention == "monai" else 0
    return tuple(round(layers * stage / stages) + later for stage in range(1, stages))
