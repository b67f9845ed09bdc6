"""`Architecture`: all that the rest of the package knows of a network, ours or anybody's, as one frozen object.

Planning, training, prediction and report ask it and nothing else. No torch here: a module that registers one may import
its network only when it is built. How to write one: ``docs/reference/architectures.md``.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

TOKEN_SIZE = "token_size"


@dataclass(frozen=True)
class Architecture:
    """How a network is built, and what it asks of a patch.

    Patch sizes and spacings are tuples in array order, (Z, Y, X), or (Y, X) in 2-D; spacings in mm.

    Attributes:
        name: letters and digits; a token of trainer names.
        build: called as ``build(in_channels=, out_channels=, patch_size=, spacing_mm=, **fields)``, the fields of the
            size among them; returns a network from (B, C, *patch) to logits (B, K, *patch). With several
            `output_scales` the network, or its ``decoder``, has an attribute ``deep_supervision``: where it is True the
            network returns a list of logits, highest resolution first, else the first of them.
        patch_multiple: spacing → voxels per axis of which a patch must be a multiple.
        sizes: name → keyword arguments of ``build``, plain data; the first one is the default.
        reference: where the network was published.
        summary: what it is, in a few words.
        dimensions: 3 for three-dimensional patches, 2 for slices, or both.
        output_scales: called as ``output_scales(patch_size=, spacing_mm=, **fields)``; size of each output relative to
            the patch, per axis, highest resolution first. None for a network of one output.
        no_transformer: keyword arguments of ``build`` that put the identity in place of every transformer block; empty
            if the architecture offers no such control.
        planned: keyword arguments of ``build`` that plans may hold as well. With ``token_size`` among them the planner
            chooses the token, voxels per axis, instead of `patch_multiple`; with ``size`` plans may hold a size's
            fields.
        learning_rates: size → peak learning rate of the recommended recipe, where another than the recipe's.
        transformer_parameters: beginnings of the names of transformer's and tokenizer's parameters, which may learn at
            a rate of their own; none for a network without a transformer.
        transformer_rates: size → that rate as a multiple of the learning rate in the recommended recipe, where not 1.
    """

    name: str
    build: Callable[..., "nn.Module"]
    patch_multiple: Callable[[tuple[float, ...]], Sequence[int]]
    sizes: Mapping[str, Mapping[str, Any]]
    reference: str
    summary: str = ""
    dimensions: Sequence[int] = (2, 3)
    output_scales: Callable[..., Sequence[Sequence[float]]] | None = None
    no_transformer: Mapping[str, Any] = field(default_factory=dict)
    planned: Sequence[str] = ()
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    transformer_parameters: Sequence[str] = ()
    transformer_rates: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_token(self.name, "the architecture")
        if not self.sizes:
            raise ValueError(f"architecture {self.name} has no size: give at least one, such as {{'base': {{}}}}")
        for size, fields in self.sizes.items():
            check_token(size, f"a size of architecture {self.name}")
            try:
                json.dumps(dict(fields))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"size {size} of architecture {self.name} is not plain data ({error}): give numbers, text, lists "
                    "and dictionaries"
                ) from error
        if not set(self.dimensions) or not set(self.dimensions) <= {2, 3}:
            raise ValueError(f"architecture {self.name} has dimensions {self.dimensions!r}: give (3,), (2,) or (2, 3)")

    @property
    def default_size(self) -> str:
        """The size that a trainer's name need not mention."""
        return next(iter(self.sizes))

    @property
    def has_tokens(self) -> bool:
        """Whether the planner chooses the size of its tokens."""
        return TOKEN_SIZE in self.planned


def check_token(word: str, what: str) -> None:
    """Refuse a word that cannot be a token of a trainer's name.

    Raises:
        ValueError: naming it.
    """
    if not isinstance(word, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", word):
        raise ValueError(
            f"{what} is called {word!r}, and a trainer's name could not hold that: use letters and digits, a letter "
            "first, and no underscore"
        )
