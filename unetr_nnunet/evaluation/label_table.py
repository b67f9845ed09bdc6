"""Which labels are scored: nnU-Net's ``dataset.json`` where there is one, else the 13 BTCV organs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetr_nnunet.organs import BACKGROUND, ORGAN_NAMES

HIGHEST_LABEL = 255
"""nnU-Net writes label maps as unsigned bytes; a larger label in a table is a mistake, and costly to count."""


@dataclass(frozen=True)
class LabelTable:
    """The labels of a data set.

    Attributes:
        organs: label of each organ by name, background left out.
        ignore_label: label of voxels that nobody annotated, None where there is none.
        source: where the table comes from, for the reader.
    """

    organs: dict[str, int]
    ignore_label: int | None
    source: str


def find_label_table(predictions: Path, labels: Path) -> LabelTable:
    """Return the table of ``dataset.json`` in ``predictions``, else beside the folder ``labels``, else BTCV's.

    Args:
        predictions: folder of predictions; nnU-Net writes a ``dataset.json`` there.
        labels: folder of labels, such as ``labelsTr`` of a raw data set.

    Raises:
        ValueError: a ``dataset.json`` is there but does not hold plain integer labels.
    """
    for path in (predictions / "dataset.json", labels.resolve().parent / "dataset.json"):
        if path.is_file():
            return read_label_table(path)
    return LabelTable({name: label for label, name in ORGAN_NAMES.items()}, None, "the 13 BTCV organs")


def read_label_table(path: Path) -> LabelTable:
    """Read the labels of an nnU-Net ``dataset.json``.

    Raises:
        ValueError: no valid JSON, no labels, or labels that are regions or no distinct integers in 0..255.
    """
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))["labels"]
        entries: dict[str, Any] = dict(labels.items())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{path} is no nnU-Net dataset.json with a "labels" table: {error!r}') from error
    for name, label in entries.items():
        if isinstance(label, list | tuple):
            raise ValueError(
                f"{path}: {name!r} is a region ({label}); regions are not supported, give each label its own integer"
            )
        if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label <= HIGHEST_LABEL:
            raise ValueError(f"{path}: the label of {name!r} is {label!r}; it must be an integer in 0..{HIGHEST_LABEL}")
    if len(set(entries.values())) < len(entries):
        raise ValueError(f"{path}: two names share one label: {entries}")
    ignore_label = entries.pop("ignore", None)
    organs = {name: label for name, label in entries.items() if label != BACKGROUND}
    if not organs:
        raise ValueError(f'{path}: the "labels" table names no organ')
    return LabelTable(organs, ignore_label, str(path))
