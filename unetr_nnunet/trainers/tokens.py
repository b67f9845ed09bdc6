"""The tokens of a trainer's name: what each group holds, and what it means. No torch in this module.

Architectures and their sizes come from the registry, the rest is data of the trainer.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unetr_nnunet.architectures import registry
from unetr_nnunet.architectures.architecture import Architecture

ORIGINAL = "original"
"""The architecture of a name without such a token."""
NO_TRANSFORMER = "NoTransformer"
BLOCKS = {
    "": "the architecture's transformer blocks",
    NO_TRANSFORMER: "identity in place of every transformer block, to see what they contribute",
}


@dataclass(frozen=True)
class TokenGroup:
    """Tokens of which a name holds at most one.

    Attributes:
        field: attribute of `TrainerName` that the token sets.
        default: value of that attribute where the name has no token of this group.
        explanations: token → what it means; the empty token explains the default.
    """

    field: str
    default: str
    explanations: Mapping[str, str]

    @property
    def values(self) -> list[str]:
        """All values of the attribute, the default first."""
        return [self.default, *(token for token in self.explanations if token)]


@dataclass(frozen=True)
class NumberToken:
    """A token with a number in it, such as ``100epochs`` or ``seed7``.

    Attributes:
        field: attribute of `TrainerName` that the number sets; None where the name has no such token.
        form: the token, ``{}`` in place of the number.
        minimum: smallest number allowed.
        explanation: what the token means.
    """

    field: str
    form: str
    minimum: int
    explanation: str

    @property
    def example(self) -> str:
        """The token with ``<N>`` for the number."""
        return self.form.format("<N>")

    @property
    def allowed(self) -> str:
        """Which numbers a token can hold, for messages."""
        return f"give a whole number, at least {self.minimum}"

    def written(self, number: float) -> str:
        """Return the token with this number; one that `number_in` would not read comes out as it may."""
        return self.form.format(number)

    def number_in(self, token: str) -> float | None:
        """Return the number in ``token``, or None where the token is of another kind.

        Only the plain decimal form counts, so that each setting has exactly one name, and at most nine digits, which
        every generator of random numbers takes as a seed.
        """
        match = re.fullmatch(re.escape(self.form).replace(r"\{\}", r"(0|[1-9][0-9]{0,8})"), token)
        number = int(match.group(1)) if match else -1
        return number if number >= self.minimum else None


@dataclass(frozen=True)
class RateToken(NumberToken):
    """A token with a learning rate in it, such as ``lr8e-3``: one or two digits, then a power of ten."""

    @property
    def example(self) -> str:
        """The token with ``<R>`` for the rate."""
        return self.form.format("<R>")

    @property
    def allowed(self) -> str:
        """Which rates a token can hold, for messages."""
        return "give a rate of at most two digits between 1e-9 and 99e-1, such as 8e-3 or 15e-4"

    def written(self, number: float) -> str:
        """Return the token with this rate, to two digits: 0.0015 is ``15e-4``."""
        digits, _, exponent = f"{number:.1e}".partition("e")
        whole, _, tenth = digits.partition(".")
        rate = f"{whole}e{int(exponent)}" if tenth == "0" else f"{whole}{tenth}e{int(exponent) - 1}"
        return self.form.format(rate)

    def number_in(self, token: str) -> float | None:
        """Return the rate in ``token``, or None where the token is of another kind or not as `written` has it."""
        match = re.fullmatch(re.escape(self.form).replace(r"\{\}", r"([1-9][0-9]?e-[1-9])"), token)
        number = float(match.group(1)) if match else None
        return number if number is not None and self.written(number) == token else None


_TRAINING_TOKENS: tuple[TokenGroup | NumberToken, ...] = (
    TokenGroup(
        "recipe",
        "recommended",
        {
            "": "AdamW 3e-4, weight decay 5e-2, warm-up, polynomial decay, 1000 epochs (Primus, 2025)",
            "Paper": "AdamW 1e-4, weight decay 1e-5, warm-up, cosine decay, 300 epochs (UNETR, 2022)",
        },
    ),
    RateToken("learning_rate", "lr{}", 0, "peak learning rate, in place of the recipe's, such as lr8e-3"),
    RateToken(
        "transformer_learning_rate",
        "vitlr{}",
        0,
        "peak learning rate of transformer and tokenizer; without it, in the recipe's ratio to the other",
    ),
    TokenGroup(
        "augmentation",
        "nnU-Net's own",
        {
            "": "nnU-Net's own: rotation, scaling, noise, blur, brightness, contrast, low resolution, gamma, mirroring",
            "Baseline": "UNETR's: flips, rotations by 90 degrees, scaled and shifted intensity",
            "LightAug": "Baseline at half its probabilities and magnitudes",
            "StrongAug": "Baseline at far higher probabilities and twice its magnitudes",
            "NoIntensity": "Baseline's flips and rotations only",
            "FlipOnly": "Baseline's flips only",
            "NoAug": "none, for short runs and as a control; no mirroring in prediction either",
        },
    ),
    TokenGroup(
        "mirroring",
        "all axes",
        {
            "": "mirror along all axes, in training and prediction (nnU-Net's own)",
            "NoLRFlip": "never swap left and right; for small patches and for organs that differ by side only",
        },
    ),
    NumberToken("epochs", "{}epochs", 1, "train for N epochs of 250 iterations instead of the recipe's number"),
    NumberToken("seed", "seed{}", 0, "seed everything; on a CPU the same seed gives the same loss curve"),
)


@functools.cache
def token_groups(architecture: str = ORIGINAL) -> tuple[TokenGroup | NumberToken, ...]:
    """Return the tokens that may follow in the name of an architecture's trainer, in their order.

    Args:
        architecture: its name.

    Raises:
        ValueError: if it cannot be had, or its name or that of a size is one of the other tokens.
    """
    found = registry.load(architecture)
    unetr = is_unetr(architecture)
    groups: list[TokenGroup | NumberToken] = []
    if unetr:
        explanations = {"": registry.load(ORIGINAL).summary}
        groups.append(
            TokenGroup(
                "architecture",
                ORIGINAL,
                explanations | {name: registry.load(name).summary for name in modifications()},
            )
        )
    if found.no_transformer:
        groups.append(TokenGroup("blocks", "transformer", BLOCKS))
    groups.append(TokenGroup("size", found.default_size, _size_tokens(found)))
    for token in [] if unetr else [found.name, *found.sizes]:
        if _is_training_token(token) or token == NO_TRANSFORMER:
            raise ValueError(
                f"{registry.find(architecture)}: {token!r} already means something in a trainer's name: the package "
                "must call its architecture, or size, something else"
            )
    rates = {"transformer_learning_rate"} if not found.transformer_parameters else set()
    return (*groups, *(token for token in _TRAINING_TOKENS if token.field not in rates))


def is_unetr(architecture: str) -> bool:
    """Return whether an architecture is UNETR or a modification of it."""
    return architecture in registry.unetr_names()


def modifications() -> list[str]:
    """Return the names of the variants of UNETR but the original."""
    return [name for name in registry.unetr_names() if name != ORIGINAL]


def _size_tokens(architecture: Architecture) -> dict[str, str]:
    tokens = {}
    for size, fields in architecture.sizes.items():
        rate, share = architecture.learning_rates.get(size), architecture.transformer_rates.get(size)
        rates = [f"learning rate {rate:g}"] if rate else []
        if share:
            own = f"{rate * share:g}" if rate else f"{share:g} of the learning rate"
            rates.append(f"transformer and tokenizer {own}")
        tokens[size] = _plainly(fields) + (f"; {', '.join(rates)}, where the recipe is the default" if rates else "")
    default = {"": f"{architecture.default_size}: {tokens.pop(architecture.default_size)}"}
    return default | tokens


def _plainly(fields: Mapping[str, Any]) -> str:
    words = (
        f"{name}: {_plainly(value)}" if isinstance(value, Mapping) else f"{name} {value}"
        for name, value in fields.items()
    )
    return ", ".join(word.replace("_", " ") for word in words) or "as it is"


def _is_training_token(token: str) -> bool:
    return any(
        token in group.explanations if isinstance(group, TokenGroup) else group.number_in(token) is not None
        for group in _TRAINING_TOKENS
    )
