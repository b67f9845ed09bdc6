"""Optimisation recipes as data, and the learning-rate schedule they share.

Sources: Hatamizadeh et al., "UNETR", WACV 2022, section 4.2 (AdamW 1e-4); the hyper-parameters of that paper's public
repository (weight decay 1e-5, 50 epochs of warm-up, cosine decay); Wald et al., "Primus", 2025, section 4 (AdamW 3e-4,
weight decay 5e-2, betas 0.9 / 0.98, 50 of 1000 epochs of warm-up, polynomial decay, gradient norm clipped at 1).
Under nnU-Net's own recipe (SGD 1e-2) a transformer diverges or stays poor.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from unetr_nnunet.architectures.architecture import Architecture
    from unetr_nnunet.trainers.names import TrainerName


@dataclass(frozen=True)
class Recipe:
    """The optimisation of a network.

    Attributes:
        learning_rate: peak learning rate of AdamW.
        weight_decay: decoupled weight decay.
        betas: AdamW's running-average coefficients.
        warmup_fraction: part of the training during which the learning rate rises linearly, 0..1.
        decay: form of the decay after the warm-up.
        epochs: number of epochs of 250 iterations.
        max_gradient_norm: gradients are scaled down to this norm.
        transformer_rate: learning rate of transformer and tokenizer as a multiple of ``learning_rate``.
    """

    learning_rate: float
    weight_decay: float
    betas: tuple[float, float]
    warmup_fraction: float
    decay: Literal["polynomial", "cosine"]
    epochs: int
    max_gradient_norm: float = 1.0
    transformer_rate: float = 1.0

    def with_rates(self, learning_rate: float | None, transformer_learning_rate: float | None) -> "Recipe":
        """Return the recipe with other peak learning rates; None keeps the rate, or its ratio to the other."""
        peak = learning_rate or self.learning_rate
        ratio = transformer_learning_rate / peak if transformer_learning_rate else self.transformer_rate
        return replace(self, learning_rate=peak, transformer_rate=ratio)


RECIPES: dict[str, Recipe] = {
    "recommended": Recipe(3e-4, 5e-2, (0.9, 0.98), 50 / 1000, "polynomial", 1000),
    "Paper": Recipe(1e-4, 1e-5, (0.9, 0.999), 50 / 300, "cosine", 300),
}


def recipe_for(name: str, learning_rate: float | None = None, transformer_rate: float | None = None) -> Recipe:
    """Return the recipe of a recipe token.

    Args:
        name: a key of `RECIPES`.
        learning_rate: peak learning rate of the recommended recipe for the network's size; None for the recipe's own.
        transformer_rate: the same for `Recipe.transformer_rate`.
    """
    recipe = RECIPES[name]
    if name == "recommended":
        return replace(
            recipe,
            learning_rate=learning_rate or recipe.learning_rate,
            transformer_rate=transformer_rate or recipe.transformer_rate,
        )
    return recipe


def recipe_of(settings: "TrainerName", architecture: "Architecture") -> Recipe:
    """Return the recipe that a trainer's name asks for, with the rates that are tuned for its network.

    Args:
        settings: what the trainer's name describes.
        architecture: the one that it names.
    """
    size = settings.size
    recipe = recipe_for(
        settings.recipe, architecture.learning_rates.get(size), architecture.transformer_rates.get(size)
    )
    return recipe.with_rates(settings.learning_rate, settings.transformer_learning_rate)


class WarmupDecay:
    """Learning rate as a function of training time: linear warm-up, then decay to zero.

    Time is counted in epochs, fractions allowed, so that a run of two epochs warms up too. nnU-Net calls ``step`` with
    the epoch's number; the trainer calls it before each iteration. It holds no state, so nothing is to be checkpointed.

    Args:
        optimizer: its parameter groups' ``lr`` is set, to ``rate`` times the schedule's where a group has one.
        recipe: peak learning rate, warm-up and decay.
        epochs: length of the training.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, recipe: Recipe, epochs: int) -> None:
        self.optimizer = optimizer
        self.recipe = recipe
        self.epochs = epochs
        self.step(0.0)

    def learning_rate(self, epoch: float) -> float:
        """Return the learning rate at a point of time, 0..epochs."""
        done = min(epoch / self.epochs, 1.0)
        warmup = self.recipe.warmup_fraction
        if done < warmup:
            return self.recipe.learning_rate * max(done / warmup, 1e-3)
        decayed = (done - warmup) / (1 - warmup)
        if self.recipe.decay == "cosine":
            return self.recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * decayed))
        return self.recipe.learning_rate * (1 - decayed) ** 0.9

    def step(self, epoch: float) -> None:
        """Set the optimizer's learning rates for a point of time, 0..epochs."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(epoch) * group.get("rate", 1.0)
