"""Which parameters learn at which rate, and which are not decayed.

A transformer needs a smaller rate than convolutions under instance norm: their output does not change with the scale of
their weights, so a large step only turns them, while a linear layer's output grows with its weights (figures in
``docs/explanation/architectures.md``). Norms, biases, LayerScale and position tables are not decayed, as in timm and
nearly all training code of vision transformers: their natural value is not zero.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from unetr_nnunet.trainers.recipes import Recipe


def parameter_groups(network: nn.Module, transformer: Sequence[str], recipe: Recipe) -> list[dict[str, Any]]:
    """Return an optimiser's parameter groups.

    Args:
        network: its parameters, and a compiled one's, are grouped. A module of it may have timm's method
            ``no_weight_decay()``, which names those of its parameters that are not to be decayed.
        transformer: beginnings of the names of the transformer's and the tokenizer's parameters.
        recipe: the optimisation.

    Returns:
        Up to four groups, none of them empty, those of the rest of the network first. ``rate`` is the group's learning
        rate as a multiple of the recipe's.
    """
    network = getattr(network, "_orig_mod", network)
    not_decayed = set(_not_decayed(network))
    groups: list[dict[str, Any]] = [
        {"params": [], "rate": rate, "weight_decay": decay}
        for rate in (1.0, recipe.transformer_rate)
        for decay in (recipe.weight_decay, 0.0)
    ]
    for name, parameter in network.named_parameters():
        in_transformer = name.startswith(tuple(transformer))
        undecayed = parameter.ndim <= 1 or name in not_decayed
        groups[2 * in_transformer + undecayed]["params"].append(parameter)
    return [group for group in groups if group["params"]]


def _not_decayed(network: nn.Module) -> Iterable[str]:
    for path, module in network.named_modules():
        names = getattr(module, "no_weight_decay", None)
        for name in names() if callable(names) else ():
            yield f"{path}.{name}" if path else name
