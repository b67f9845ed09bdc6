"""Parse a trainer's name. nnU-Net chooses a trainer by its name alone, so everything we offer is a token of it.

A name is ``nnUNetTrainerUNETR`` followed by tokens, each at most once and in the order of `TOKEN_GROUPS`::

    nnUNetTrainerUNETR[_<Architecture>][_NoTransformer][_<Size>][_<Recipe>][_<Augmentation>]
        [_NoLRFlip][_<N>epochs][_seed<N>]

There is never a double underscore, because nnU-Net splits its result folders' names there. No torch in this module.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

BASE_NAME = "nnUNetTrainerUNETR"


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

    def number_in(self, token: str) -> int | None:
        """Return the number in ``token``, or None where the token is of another kind.

        Only the plain decimal form counts, so that each setting has exactly one name, and at most nine digits, which
        every generator of random numbers takes as a seed.
        """
        match = re.fullmatch(re.escape(self.form).replace(r"\{\}", r"(0|[1-9][0-9]{0,8})"), token)
        number = int(match.group(1)) if match else -1
        return number if number >= self.minimum else None


TOKEN_GROUPS: tuple[TokenGroup | NumberToken, ...] = (
    TokenGroup(
        "architecture",
        "original",
        {
            "": "the original UNETR",
            "CNNStem": "residual convolutional tokenizer, whose maps are the high-resolution skips",
            "ModernViT": "light transformer: rotary positions, LayerScale, SwiGLU, query and key norm, DropPath",
            "AlignedSkips": "taps aligned with their decoder scale, and gated, before fusion",
            "FPN": "top-down fusion over all scales, with deep supervision",
            "Modified": "all four modifications",
        },
    ),
    TokenGroup(
        "blocks",
        "transformer",
        {
            "": "the architecture's transformer blocks",
            "NoTransformer": "identity in place of every transformer block, to see what they contribute",
        },
    ),
    TokenGroup(
        "size",
        "base",
        {
            "": "base: the paper's size for the original, 12 blocks, 768 wide",
            "Tiny": "small network for CPU runs and the demo",
            "Large": "larger network for large GPUs",
        },
    ),
    TokenGroup(
        "recipe",
        "recommended",
        {
            "": "AdamW 3e-4 (Tiny: 8e-3), weight decay 5e-2, warm-up, polynomial decay, 1000 epochs (Primus, 2025)",
            "Paper": "AdamW 1e-4, weight decay 1e-5, warm-up, cosine decay, 300 epochs (UNETR, 2022)",
        },
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


@dataclass(frozen=True)
class TrainerName:
    """The settings that a trainer's name describes; ``str()`` gives the name back.

    Attributes:
        architecture: "original", one of its modifications, or "Modified".
        blocks: "transformer", or "NoTransformer".
        size: network preset, "base", "Tiny" or "Large".
        recipe: optimisation recipe, "recommended" or "Paper".
        augmentation: "nnU-Net's own", or one of the study's policies.
        mirroring: "all axes", or "NoLRFlip".
        epochs: number of epochs; None for the recipe's own.
        seed: seed of the run; None for an unseeded one.
    """

    architecture: str = "original"
    blocks: str = "transformer"
    size: str = "base"
    recipe: str = "recommended"
    augmentation: str = "nnU-Net's own"
    mirroring: str = "all axes"
    epochs: int | None = None
    seed: int | None = None

    def __str__(self) -> str:
        tokens = [BASE_NAME]
        for group in TOKEN_GROUPS:
            value = getattr(self, group.field)
            if isinstance(group, NumberToken):
                tokens += [] if value is None else [group.form.format(value)]
            elif value != group.default:
                tokens.append(value)
        return "_".join(tokens)


def parse_trainer_name(name: str) -> TrainerName:
    """Return the settings that ``name`` describes.

    Args:
        name: a trainer name, such as ``nnUNetTrainerUNETR_Tiny_2epochs_seed1``.

    Raises:
        ValueError: if the name does not start with `BASE_NAME`, or holds an unknown, repeated or misplaced token; the
            message lists the valid tokens.
    """
    base, *tokens = name.split("_")
    if base != BASE_NAME:
        raise ValueError(f"{name!r} is not one of our trainers: their names start with {BASE_NAME}")
    settings: dict[str, str | int] = {}
    for token in tokens:
        field, value = _read_token(name, token)
        if field in settings:
            raise ValueError(f"{name}: a second {field} token {token!r}; at most one is allowed. {describe_tokens()}")
        settings[field] = value
    parsed = TrainerName(**settings)  # type: ignore[arg-type]
    if str(parsed) != name:
        raise ValueError(f"{name}: tokens are in the wrong order; write {parsed}")
    return parsed


def _read_token(name: str, token: str) -> tuple[str, str | int]:
    for group in TOKEN_GROUPS:
        if isinstance(group, TokenGroup):
            if token and token in group.explanations:
                return group.field, token
        elif (number := group.number_in(token)) is not None:
            return group.field, number
    what = f"unknown token {token!r}" if token else "an underscore too many"
    raise ValueError(f"{name}: {what}. {describe_tokens()}")


def describe_tokens() -> str:
    """Return the valid tokens, group by group, in one line."""
    groups = []
    for group in TOKEN_GROUPS:
        tokens = [group.form.format("<N>")] if isinstance(group, NumberToken) else [t for t in group.explanations if t]
        groups.append(f"{group.field}: {', '.join(tokens)}")
    return "Valid tokens, in this order: " + "; ".join(groups)


def explain(name: TrainerName) -> list[tuple[str, str, str]]:
    """Return one row per token group: the setting's field, its value, and what it means."""
    rows = []
    for group in TOKEN_GROUPS:
        value = getattr(name, group.field)
        if isinstance(group, NumberToken):
            shown = "none" if value is None else str(value)
            rows.append((group.field, shown, group.explanation if value is not None else "not set"))
        else:
            rows.append((group.field, value, group.explanations["" if value == group.default else value]))
    return rows
