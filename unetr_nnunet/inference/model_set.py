"""A chosen model as `unetr_nnunet crossval` leaves it: one or several model folders, and nnU-Net's post-processing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = "best_model.json"
LARGEST_COMPONENT = "remove_all_but_largest_component_from_segmentation"
"""The one function that nnU-Net's post-processing has; nothing else is called on the word of a file."""


@dataclass(frozen=True)
class ModelSet:
    """Models to average, and what is done to their label map.

    Attributes:
        models: model folders.
        folds: folds of each; None for all there are.
        largest_only: labels, or groups of labels, of which only the largest connected component is kept, in order.
    """

    models: tuple[Path, ...]
    folds: tuple[str, ...] | None = None
    largest_only: tuple[int | tuple[int, ...], ...] = ()

    def postprocess(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return a label map (Z, Y, X) without the components that nnU-Net's post-processing removes."""
        if not self.largest_only:
            return labels
        from nnunetv2.postprocessing.remove_connected_components import (
            remove_all_but_largest_component_from_segmentation,
        )

        for each in self.largest_only:
            wanted = list(each) if isinstance(each, tuple) else each
            labels = remove_all_but_largest_component_from_segmentation(labels, wanted)
        return np.asarray(labels)


def read_model_set(folder: Path) -> ModelSet | None:
    """Return the models that a folder's `FILE` names; None where it has none and so is a model folder itself.

    Raises:
        ValueError: the file is damaged, or names models that are not there.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        models = tuple(folder / Path(name).name for name in content["models"])
        folds = tuple(str(fold) for fold in content["folds"])
        rules = [_labels(name, words) for name, words in content["postprocessing"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): make it again with `unetr_nnunet crossval`") from error
    for model in models:
        if not (model / "plans.json").is_file():
            raise ValueError(f"{path} names {model.name}, which is not beside it: copy the whole folder again")
    return ModelSet(models, folds, tuple(rules))


def _labels(name: str, words: Mapping[str, Any]) -> int | tuple[int, ...]:
    if name != LARGEST_COMPONENT or set(words) != {"labels_or_regions"}:
        raise ValueError(f"unknown post-processing {name} {words}")
    labels = words["labels_or_regions"]
    return tuple(int(label) for label in labels) if isinstance(labels, Sequence) else int(labels)
