"""``splits_final.json``: the folds of a cross-validation, as nnU-Net's ``crossval_split.py`` writes them."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from unetr_nnunet.nnunet.json_file import read_json

FILE_NAME = "splits_final.json"


@dataclass(frozen=True)
class Fold:
    """Identifiers of the cases that a fold trains on and is validated on."""

    train: tuple[str, ...]
    val: tuple[str, ...]


def read_splits(path: Path) -> list[Fold]:
    """Read the folds, in order.

    Raises:
        ValueError: the file is damaged, or is not a list of folds.
    """
    remedy = "write a list of folds with train and val, or remove it: nnU-Net then draws five folds"
    return read_json(path, TypeAdapter(list[Fold]), remedy)
