"""Names and colours of labels, as files that ITK-SNAP and 3D Slicer open beside a mask.

Formats: ITK-SNAP's label description file (as written by its Segmentation menu, "Export Label Descriptions") and
3D Slicer's colour table (``.ctbl``, https://slicer.readthedocs.io/en/latest/developer_guide/modules/colors.html).
"""

from pathlib import Path

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
