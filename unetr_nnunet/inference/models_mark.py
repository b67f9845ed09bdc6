"""A short mark that tells trained models from others, wherever their files lie."""

import hashlib
import json
from collections.abc import Mapping, Sequence

import torch

from unetr_nnunet.inference.model import Model

_VALUES = 1024
"""Of each tensor, so that gigabytes of weights need not be read; training changes every one."""


def models_mark(models: Sequence[Model], settings: object = ()) -> str:
    """Return a mark of models with their folds and plans, in any order, and of settings that change label maps.

    Args:
        models: loaded models.
        settings: anything that its ``repr`` tells apart, such as `ModelSet.largest_only`.
    """
    folds = sorted(_digest(weights) for model in models for weights in model.parameters)
    described = sorted(json.dumps([model.plans.plans, model.dataset], sort_keys=True) for model in models)
    return hashlib.sha256(repr((folds, described, settings)).encode()).hexdigest()


def _digest(weights: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        values = tensor.detach().flatten()[:_VALUES].to("cpu", torch.float64)
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + values.numpy().tobytes())
    return digest.hexdigest()
