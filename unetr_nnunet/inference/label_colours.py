"""Names and colours of labels, as files that ITK-SNAP and 3D Slicer open beside a mask.

Formats: ITK-SNAP's label description file (as written by its Segmentation menu, "Export Label Descriptions") and
3D Slicer's colour table (``.ctbl``, https://slicer.readthedocs.io/en/latest/developer_guide/modules/colors.html).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.organs import BACKGROUND, label_colours

ITKSNAP_FILE = "labels_itksnap.txt"
SLICER_FILE = "labels_slicer.ctbl"

_ITKSNAP_HEADER = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Fields:
#    IDX:   Zero-based index
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    IDX:   Label mesh visibility (0 or 1)
#  LABEL:   Label description
################################################
"""


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


def region_integers(dataset: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return all integers of a mask that lie within each label or region, in the order of `integer_labels`.

    A voxel within several regions has the integer of the last of them, so that a region's voxels have its own integer
    (which stands for what is in no later region) or one of those that its entry in ``dataset.json`` lists.

    Args:
        dataset: content of nnU-Net's ``dataset.json``.

    Raises:
        ValueError: see `integer_labels`.
    """
    own = integer_labels(dataset)
    listed = {name: _integers(name, dataset["labels"][name]) for name in own}
    return {name: tuple(sorted({label, *(set(listed[name]) & set(own.values()))})) for name, label in own.items()}


def _integers(name: str, label: Any) -> tuple[int, ...]:
    try:
        integers = tuple(map(int, label)) if isinstance(label, list | tuple) else (int(label),)
    except (TypeError, ValueError):
        integers = ()
    if not integers:
        raise ValueError(f"dataset.json: the label of {name!r} is {label!r}; it must be an integer or a list of them")
    return integers


def write_label_tables(folder: Path, labels: dict[str, int]) -> None:
    """Write ``labels_itksnap.txt`` and ``labels_slicer.ctbl``: number, name and colour of each label.

    Blanks in names become underscores for 3D Slicer, whose format separates columns by blanks; quotation marks, which
    end a name in ITK-SNAP's, become apostrophes.

    Args:
        folder: where the masks are.
        labels: integer of each label by name, without background.
    """
    colours = label_colours(labels)
    itksnap = [_itksnap_line(BACKGROUND, (0, 0, 0), "Clear Label", shown=0)]
    slicer = [f"{BACKGROUND} Background 0 0 0 0"]
    for name, label in sorted(labels.items(), key=lambda item: item[1]):
        red, green, blue = colours[label]
        itksnap.append(_itksnap_line(label, (red, green, blue), " ".join(name.split()).replace('"', "'"), shown=1))
        slicer.append(f"{label} {'_'.join(name.split())} {red} {green} {blue} 255")
    tables = {
        ITKSNAP_FILE: _ITKSNAP_HEADER + "\n".join(itksnap),
        SLICER_FILE: f"# Color table file {SLICER_FILE}\n# {len(slicer)} values\n" + "\n".join(slicer),
    }
    for file_name, text in tables.items():
        with atomic_path(folder / file_name) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


def _itksnap_line(label: int, colour: tuple[int, int, int], name: str, *, shown: int) -> str:
    red, green, blue = colour
    return f'{label:5d} {red:5d} {green:4d} {blue:4d} {shown:8d} {shown:2d} {shown:2d}    "{name}"'
