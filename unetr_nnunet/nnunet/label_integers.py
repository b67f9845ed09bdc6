"""Which integers stand for each label or region in label maps, from nnU-Net's ``dataset.json``."""

from collections.abc import Sequence
from typing import Any

from unetr_nnunet.organs import BACKGROUND


def integer_labels(dataset: dict[str, Any]) -> dict[str, int]:
    """Return the integer that each label or region has in a mask, background and ignored voxels left out.

    A model is region-based where any label of its ``dataset.json`` lists several integers, as nnU-Net's
    ``LabelManager`` has it. The integers in its masks are then those of ``regions_class_order``, one a region.

    Args:
        dataset: content of nnU-Net's ``dataset.json``.

    Raises:
        ValueError: there are no labels, or ``regions_class_order`` does not name one integer a region.
    """
    labels = dataset.get("labels")
    if not isinstance(labels, dict):
        raise ValueError(
            'dataset.json holds no "labels" table of names and integers; take the one of the trained model'
        )
    values = {name: _integers(name, label) for name, label in labels.items() if name != "ignore"}
    foreground = {name: integers for name, integers in values.items() if set(integers) != {BACKGROUND}}
    if all(len(integers) == 1 for integers in values.values()):
        return {name: integers[0] for name, integers in foreground.items()}
    order = dataset.get("regions_class_order")
    if not isinstance(order, Sequence) or len(order) != len(foreground):
        raise ValueError(
            f'dataset.json holds {len(foreground)} regions and "regions_class_order" {order}; it must list one integer '
            "for each region"
        )
    return dict(zip(foreground, map(int, order), strict=True))


def annotated_integers(dataset: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the integers of each label or region in annotations, in the order of `integer_labels`.

    Raises:
        ValueError: see `integer_labels`.
    """
    return {name: _integers(name, dataset["labels"][name]) for name in integer_labels(dataset)}


def region_integers(dataset: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return all integers of a mask that lie within each label or region, in the order of `integer_labels`.

    A voxel within several regions has the integer of the last of them, so that a region's voxels have its own integer
    (which stands for what is in no later region) or one of those that its entry in ``dataset.json`` lists.

    Args:
        dataset: content of nnU-Net's ``dataset.json``.

    Raises:
        ValueError: see `integer_labels`.
    """
    own, listed = integer_labels(dataset), annotated_integers(dataset)
    return {name: tuple(sorted({label, *(set(listed[name]) & set(own.values()))})) for name, label in own.items()}


def _integers(name: str, label: Any) -> tuple[int, ...]:
    try:
        integers = tuple(map(int, label)) if isinstance(label, list | tuple) else (int(label),)
    except (TypeError, ValueError):
        integers = ()
    if not integers:
        raise ValueError(f"dataset.json: the label of {name!r} is {label!r}; it must be an integer or a list of them")
    return integers
