"""Parse a trainer's name. nnU-Net chooses a trainer by its name alone, so everything we offer is a token of it.

A name is ``nnUNetTrainerUNETR``, or for another architecture ``nnUNetTrainerNet_<Name>``, followed by tokens, each at
most once and in the order of `unetr_nnunet.trainers.tokens.token_groups`::

    nnUNetTrainerUNETR[_<Modification>][_NoTransformer][_<Size>][_<Recipe>][_lr<R>][_vitlr<R>][_<Augmentation>]
        [_NoLRFlip][_<N>epochs][_seed<N>]
    nnUNetTrainerNet_<Name>[_NoTransformer][_<Size>][_<Recipe>]...

Modifications, names and sizes are those of the installed architectures (`unetr_nnunet.architectures.registry`). There
is never a double underscore, because nnU-Net splits its result folders' names there. No torch in this module.
"""

from dataclasses import dataclass

from unetr_nnunet.architectures import registry
from unetr_nnunet.trainers.tokens import ORIGINAL, NumberToken, TokenGroup, is_unetr, modifications, token_groups

BASE_NAME = "nnUNetTrainerUNETR"
OPEN_NAME = "nnUNetTrainerNet"
"""The name's beginning for every architecture that is no variant of UNETR; its name is the next token."""


@dataclass(frozen=True)
class TrainerName:
    """The settings that a trainer's name describes; ``str()`` gives the name back.

    Attributes:
        architecture: "original", one of its modifications, or another installed architecture.
        blocks: "transformer", or "NoTransformer".
        size: one of the architecture's sizes; an empty one becomes its default.
        recipe: optimisation recipe, "recommended" or "Paper".
        learning_rate: peak learning rate; None for the recipe's.
        transformer_learning_rate: that of transformer and tokenizer; None for the recipe's ratio to the other.
        augmentation: "nnU-Net's own", or one of the study's policies.
        mirroring: "all axes", or "NoLRFlip".
        epochs: number of epochs; None for the recipe's own.
        seed: seed of the run; None for an unseeded one.

    Raises:
        ValueError: on an architecture that cannot be had, or a setting that is not among the valid ones.
    """

    architecture: str = ORIGINAL
    blocks: str = "transformer"
    size: str = ""
    recipe: str = "recommended"
    learning_rate: float | None = None
    transformer_learning_rate: float | None = None
    augmentation: str = "nnU-Net's own"
    mirroring: str = "all axes"
    epochs: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "architecture", registry.find(self.architecture).name)
        groups = token_groups(self.architecture)
        fields = {group.field for group in groups}
        if self.blocks != "transformer" and "blocks" not in fields:
            raise ValueError(f"{self.architecture} has no control without its transformer, so blocks is 'transformer'")
        if self.transformer_learning_rate and "transformer_learning_rate" not in fields:
            raise ValueError(f"{self.architecture} does not tell which parameters are a transformer's: leave vitlr out")
        for group in groups:
            if isinstance(group, NumberToken):
                number = getattr(self, group.field)
                if number is not None and group.number_in(group.written(number)) != number:
                    raise ValueError(f"{group.field} {number!r}: {group.allowed}")
                continue
            value = getattr(self, group.field) or group.default
            object.__setattr__(self, group.field, value)
            if value != group.default and value not in group.explanations:
                raise ValueError(f"{group.field} {value!r}: choose one of {', '.join(group.values)}")

    def __str__(self) -> str:
        tokens = [BASE_NAME] if is_unetr(self.architecture) else [OPEN_NAME, self.architecture]
        for group in token_groups(self.architecture):
            value = getattr(self, group.field)
            if isinstance(group, NumberToken):
                tokens += [] if value is None else [group.written(value)]
            elif value != group.default:
                tokens.append(value)
        return "_".join(tokens)


def is_parsed(name: str) -> bool:
    """Return whether a trainer's name is of this grammar, right or wrong, and not a class that somebody wrote."""
    return name.split("_")[0] in (BASE_NAME, OPEN_NAME)


def parse_trainer_name(name: str) -> TrainerName:
    """Return the settings that ``name`` describes.

    Args:
        name: a trainer name, such as ``nnUNetTrainerUNETR_Tiny_2epochs_seed1``.

    Raises:
        ValueError: if the name does not start as it must, its architecture is not installed, or it holds an unknown,
            repeated or misplaced token; the message lists the valid tokens.
    """
    base, *tokens = name.split("_")
    if base == OPEN_NAME:
        architecture = _open_architecture(name, tokens.pop(0) if tokens else "")
    elif base == BASE_NAME:
        architecture = next((token for token in tokens if token in modifications()), ORIGINAL)
    else:
        raise ValueError(
            f"{name!r} is not one of our trainers: their names start with {BASE_NAME} or {OPEN_NAME}_<Name>"
        )
    settings: dict[str, str | float] = {}
    for token in tokens:
        field, value = _read_token(name, token, architecture)
        if field in settings:
            raise ValueError(
                f"{name}: a second {field} token {token!r}; at most one is allowed. {describe_tokens(architecture)}"
            )
        settings[field] = value
    parsed = TrainerName(**{"architecture": architecture} | settings)  # type: ignore[arg-type]
    if str(parsed) != name:
        raise ValueError(f"{name}: tokens are in the wrong order; write {parsed}")
    return parsed


def _open_architecture(name: str, token: str) -> str:
    others = [one.name for one in registry.registrations() if not one.is_unetr]
    if not token:
        there = f"installed are {', '.join(others)}" if others else "no package that registers one is installed"
        raise ValueError(f"{name}: the name of an architecture is missing, {OPEN_NAME}_<Name>; {there}")
    if token in registry.unetr_names():
        rest = "" if token == ORIGINAL else f"_{token}"
        raise ValueError(f"{name}: {token} is a variant of UNETR: write {BASE_NAME}{rest}")
    try:
        found = registry.find(token).name
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if found != token:
        raise ValueError(f"{name}: write {OPEN_NAME}_{found}")
    return found


def _read_token(name: str, token: str, architecture: str) -> tuple[str, str | float]:
    for group in token_groups(architecture):
        if isinstance(group, TokenGroup):
            if token and token in group.explanations:
                return group.field, token
        elif (number := group.number_in(token)) is not None:
            return group.field, number
    what = f"unknown token {token!r}" if token else "an underscore too many"
    raise ValueError(f"{name}: {what}. {describe_tokens(architecture)}")


def describe_tokens(architecture: str = ORIGINAL) -> str:
    """Return the valid tokens, group by group, in one line."""
    groups = []
    for group in token_groups(architecture):
        tokens = [group.example] if isinstance(group, NumberToken) else [t for t in group.explanations if t]
        groups += [f"{group.field}: {', '.join(tokens)}"] if tokens else []
    return "Valid tokens, in this order: " + "; ".join(groups)


def explain(name: TrainerName) -> list[tuple[str, str, str]]:
    """Return one row per token group: the setting's field, its value, and what it means."""
    rows = []
    if not is_unetr(name.architecture):
        found, one = registry.load(name.architecture), registry.find(name.architecture)
        rows.append(("architecture", one.name, f"{found.summary or found.reference}; {one.distribution} {one.version}"))
    for group in token_groups(name.architecture):
        value = getattr(name, group.field)
        if isinstance(group, NumberToken):
            shown = "none" if value is None else str(value)
            rows.append((group.field, shown, group.explanation if value is not None else "not set"))
        else:
            rows.append((group.field, value, group.explanations["" if value == group.default else value]))
    return rows
