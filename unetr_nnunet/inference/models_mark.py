"""A short mark that tells trained models from others, wherever their files lie."""

import hashlib
from collections.abc import Mapping, Sequence

import torch

from unetr_nnunet.inference.model import Model

_VALUES = 1024
"""Of each tensor, so that gigabytes of weights need not be read; training changes every one."""


def models_mark(models: Sequence[Model], postprocessing: object = ()) -> str:
    """Return a mark of all models' folds and what is done to their label maps; their order does not matter.

    Args:
        models: loaded models.
        postprocessing: whatever its ``repr`` tells apart, such as `ModelSet.largest_only`.
    """
    folds = sorted(_digest(weights) for model in models for weights in model.parameters)
    return hashlib.sha256(repr((folds, postprocessing)).encode()).hexdigest()


def _digest(weights: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        values = tensor.detach().flatten()[:_VALUES].to("cpu", torch.float64)
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + values.numpy().tobytes())
    return digest.hexdigest()
