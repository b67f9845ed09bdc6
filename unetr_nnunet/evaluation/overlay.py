"""A picture of label maps over a CT, in the organ colours, at the abdominal window of level 40, width 400 HU."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.organs import ORGANS

LEVEL_HU, WIDTH_HU = 40, 400
OPACITY = 0.55


def draw_overlay(ct: Path, label_maps: Mapping[str, Path], picture: Path) -> None:
    """Draw two axial slices and a coronal one: the bare CT, then each label map over it.

    The slices are chosen by the first label map: where most organs are seen. Patient's right is on the viewer's left.

    Args:
        ct: image in HU, any orientation.
        label_maps: title → label map on the CT's grid.
        picture: PNG file to write.
    """
    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    volume = sitk.DICOMOrient(sitk.ReadImage(str(ct)), "LPS")
    image = sitk.GetArrayFromImage(volume)  # (Z, Y, X), z upwards, y to the back, x to the patient's left
    maps = {title: _read_lps(path) for title, path in label_maps.items()}
    for title, array in maps.items():
        if array.shape != image.shape:
            raise ValueError(
                f"{label_maps[title]} has shape {array.shape}, its CT {image.shape}: give maps on its grid"
            )
    spacing_z, spacing_y = volume.GetSpacing()[2], volume.GetSpacing()[1]
    views = _choose_views(next(iter(maps.values())))
    colours = np.zeros((256, 4))
    for organ in ORGANS:
        colours[organ.id] = (*(part / 255 for part in organ.colour), OPACITY)

    figure, axes = pyplot.subplots(
        len(views), 1 + len(maps), figsize=(3.4 * (1 + len(maps)), 3.1 * len(views)), squeeze=False, facecolor="black"
    )
    for row, (axis, index) in enumerate(views):
        aspect = 1.0 if axis == 0 else spacing_z / spacing_y
        for column, title in enumerate(["CT", *maps]):
            panel = axes[row, column]
            panel.imshow(
                _slice(image, axis, index),
                cmap="gray",
                vmin=LEVEL_HU - WIDTH_HU / 2,
                vmax=LEVEL_HU + WIDTH_HU / 2,
                aspect=aspect,
            )
            if title in maps:
                panel.imshow(colours[_slice(maps[title], axis, index)], aspect=aspect, interpolation="nearest")
            panel.set_axis_off()
            if row == 0:
                panel.set_title(title, color="white", fontsize=11)
    handles = [Patch(color=colours[organ.id][:3], label=organ.name.replace("_", " ")) for organ in ORGANS]
    figure.legend(handles=handles, loc="lower center", ncol=4, frameon=False, labelcolor="white", fontsize=8)
    figure.subplots_adjust(left=0, right=1, top=0.95, bottom=0.13, wspace=0.02, hspace=0.02)
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, dpi=90, facecolor="black", format="png")
    pyplot.close(figure)


def _read_lps(path: Path) -> NDArray[np.uint8]:
    label_map = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    return sitk.GetArrayFromImage(label_map).astype(np.uint8)


def _choose_views(labels: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Return (axis, index) of two axial slices with many organs, one high and one low, and of one coronal slice."""
    views = []
    depth = labels.shape[0]
    present = np.stack([(labels == organ.id).any(axis=(1, 2)) for organ in ORGANS]).sum(axis=0)  # organs per slice
    occupied = np.flatnonzero(present) if present.any() else np.arange(depth)
    middle = int(np.median(occupied))
    for part in (slice(middle, depth), slice(0, middle + 1)):
        area = (labels[part] > 0).sum(axis=(1, 2)) / max(labels[0].size, 1)
        views.append((0, part.start + int(np.argmax(present[part] + area))))
    coronal = np.stack([(labels == organ.id).any(axis=(0, 2)) for organ in ORGANS]).sum(axis=0)
    area = (labels > 0).sum(axis=(0, 2)) / max(labels[:, 0].size, 1)
    return [*views, (1, int(np.argmax(coronal + area)))]


def _slice(array: NDArray[np.generic], axis: int, index: int) -> NDArray[np.generic]:
    return array[index] if axis == 0 else array[::-1, index]  # coronal: head up
