"""Draw the picture of the phantom in the documentation: window 40/400, two axial slices and a coronal one, with organs.

python benchmarks/phantom_picture.py docs/images/phantom.png
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch

from unetr_nnunet.organs import ORGANS
from unetr_nnunet.phantom import PhantomCase, generate_case

LEVEL_HU, WIDTH_HU = 40, 400
ADRENAL_ID, PANCREAS_ID, AORTA_ID = 13, 11, 8


def views(case: PhantomCase) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Return image, labels (rows, columns) and row/column aspect: through adrenal, through pancreas, and coronal."""
    image, labels = case.image_hu, case.labels
    if case.orientation == "RAS":
        image, labels = image[:, ::-1, ::-1], labels[:, ::-1, ::-1]
    adrenal_z = int(np.argwhere(labels == ADRENAL_ID)[:, 0].mean())
    pancreas_z = int(np.percentile(np.argwhere(labels == PANCREAS_ID)[:, 0], 45))
    aorta_y = int(np.percentile(np.argwhere(labels == AORTA_ID)[:, 1], 45))
    body = image[pancreas_z] > -300
    rows = np.flatnonzero(body.sum(axis=1) > 0.15 * len(body))  # the table is only a few pixels of any row or column
    columns = np.flatnonzero(body.sum(axis=0) > 0.05 * len(body))
    crop = slice(max(rows[0] - 25, 0), rows[-1] + 25), slice(max(columns[0] - 12, 0), columns[-1] + 12)
    return [
        (image[adrenal_z][crop], labels[adrenal_z][crop], 1.0),
        (image[pancreas_z][crop], labels[pancreas_z][crop], 1.0),
        (image[::-1, aorta_y], labels[::-1, aorta_y], case.spacing_mm[0] / case.spacing_mm[1]),
    ]


def draw(case: PhantomCase, path: Path) -> None:
    """Draw the CT above, the same with the organs below."""
    colours = np.zeros((len(ORGANS) + 1, 4))
    for organ in ORGANS:
        colours[organ.id] = (*(part / 255 for part in organ.colour), 0.6)
    figure, axes = plt.subplots(2, 3, figsize=(13, 7.6), facecolor="black", width_ratios=(1.25, 1.25, 1))
    for column, (image, labels, aspect) in enumerate(views(case)):
        for row in (0, 1):
            axis = axes[row, column]
            low = LEVEL_HU - WIDTH_HU / 2
            axis.imshow(image, cmap="gray", vmin=low, vmax=low + WIDTH_HU, aspect=aspect, interpolation="bilinear")
            if row:
                axis.imshow(colours[labels], aspect=aspect, interpolation="nearest")
            axis.set_axis_off()
    handles = [Patch(color=colours[organ.id][:3], label=organ.name.replace("_", " ")) for organ in ORGANS]
    figure.legend(handles=handles, loc="lower center", ncol=7, frameon=False, labelcolor="white", fontsize=9)
    figure.subplots_adjust(left=0, right=1, top=1, bottom=0.075, wspace=0.01, hspace=0.01)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, facecolor="black")


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--case", type=int, default=1)
    parser.add_argument("--size", default="full")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw(generate_case(arguments.case, arguments.size, arguments.seed), arguments.picture)


if __name__ == "__main__":
    main()
