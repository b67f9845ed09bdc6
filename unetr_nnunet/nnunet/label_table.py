"""The labels that are scored: nnU-Net's ``dataset.json`` where there is one, else the 13 BTCV organs."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unetr_nnunet.organs import BACKGROUND, ORGAN_NAMES, find_organ

ABSENT_LABELS = "absent_labels"
"""Our own key in ``dataset.json``: names of the labels that are not annotated in the data set (see ``convert``)."""
HIGHEST_LABEL = 255
"""nnU-Net writes label maps as unsigned bytes; a larger label in a table is a mistake, and costly to count."""


@dataclass(frozen=True)
class LabelTable:
    """The labels of a data set.

    Attributes:
        organs: label of each organ by name, background left out.
        ignore_label: label of voxels without annotation, None if missing.
        source: where the table comes from, for the reader.
        not_scored: labels that may occur, but that the truth or the model was made without.
    """

    organs: dict[str, int]
    ignore_label: int | None
    source: str
    not_scored: dict[str, int] = field(default_factory=dict)


def find_label_table(predictions: Path, labels: Path) -> LabelTable:
    """Return the table of ``dataset.json`` in ``predictions``, else beside the folder ``labels``, else BTCV's.

    Labels that either ``dataset.json`` declares absent are not scored: no model is to be blamed for an organ that
    is not annotated.

    Args:
        predictions: folder of predictions; nnU-Net writes a ``dataset.json`` there.
        labels: folder of labels, such as ``labelsTr`` of a raw data set.

    Raises:
        ValueError: a ``dataset.json`` is there but does not hold plain integer labels, or no label is left to score.
    """
    beside = labels.resolve().parent / "dataset.json"
    for path in (predictions / "dataset.json", beside):
        if path.is_file():
            return without_absent(read_label_table(path), labels)
    return LabelTable({name: label for label, name in ORGAN_NAMES.items()}, None, "the 13 BTCV organs")


def without_absent(table: LabelTable, labels: Path) -> LabelTable:
    """Return the table without the labels that a ``dataset.json`` beside the folder ``labels`` declares absent.

    Raises:
        ValueError: no label is left to score.
    """
    path = labels.resolve().parent / "dataset.json"
    if not path.is_file():
        return table
    try:
        absent = _absent_labels(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, AttributeError):
        return table  # another table is in force, and this file says nothing that can be understood
    return _without(table, absent)


def _absent_labels(content: dict[str, Any]) -> list[str]:
    return [str(name) for name in content.get(ABSENT_LABELS) or []]


def _without(table: LabelTable, absent: Collection[str]) -> LabelTable:
    """Return the table without some labels, found by organ where they are called otherwise."""
    known = {organ.id for name in absent if (organ := find_organ(name))}

    def is_absent(name: str) -> bool:
        organ = find_organ(name)
        return name in absent or (organ is not None and organ.id in known)

    out = {name: label for name, label in table.organs.items() if is_absent(name)}
    if not out:
        return table
    scored = {name: label for name, label in table.organs.items() if name not in out}
    if not scored:
        raise ValueError(f"{table.source}: every label is declared absent, so that there is nothing to score")
    source = f"{table.source} (not scored, as they are not annotated there: {', '.join(out)})"
    return replace(table, organs=scored, source=source, not_scored=table.not_scored | out)


def read_label_table(path: Path) -> LabelTable:
    """Read the labels of an nnU-Net ``dataset.json``.

    Raises:
        ValueError: no valid JSON, no labels, or labels that are regions or no distinct integers in 0..255.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries: dict[str, Any] = dict(content["labels"].items())
        absent = _absent_labels(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{path} is not an nnU-Net dataset.json with a "labels" table: {error!r}') from error
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
    return _without(LabelTable(organs, ignore_label, str(path)), absent)
