"""A picture of label maps over a CT, in the labels' colours, at the abdominal window of level 40, width 400 HU."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.images.orientation import lps_view
from unetr_nnunet.organs import ORGANS, label_colours

ABDOMINAL_WINDOW = (-160.0, 240.0)
"""HU: level 40, width 400."""
WINDOW_PERCENTILES = (1, 99)
LEAST_HEIGHT = 0.15
"""Of a coronal slice, as share of its width; that of a thinner slab would be a stripe and is left out."""
OPACITY = 0.55
DOTS_PER_INCH = 120
LONGEST_LEGEND = len(ORGANS)
"""A longer label table shows only the labels that occur."""

PANEL_INCHES, LEAST_INCHES, MOST_INCHES = 3.4, 0.8, 4.6  # width; height, which follows the volume's proportion
TITLE_INCHES, LEGEND_ROW_INCHES, LEGEND_COLUMN_INCHES = 0.3, 0.19, 1.7


def draw_overlay(
    ct: sitk.Image,
    label_maps: Mapping[str, sitk.Image],
    picture: Path,
    labels: Mapping[str, int] | None = None,
    window: tuple[float, float] | None = ABDOMINAL_WINDOW,
) -> None:
    """Draw two axial slices and, unless the volume is thin, a coronal one: the bare CT, then each label map over it.

    The slices are chosen by the first label map: where most labels are seen. Patient's right is on the viewer's left.
    Voxels are drawn in their true proportion. Volumes are read slice by slice and never copied.

    Args:
        ct: image in HU, any orientation.
        label_maps: title → label map on the CT's grid, in any orientation; one at least.
        picture: PNG file to write.
        labels: integer of each label by name; None for the 13 BTCV organs. Other values are not drawn.
        window: values drawn black and white; None for the 1st and 99th percentile of the slices drawn.

    Raises:
        ValueError: a label map is not on the CT's grid.
    """
    table = {organ.name: organ.id for organ in ORGANS} if labels is None else labels
    volume, spacing_mm = lps_view(ct)
    maps = {title: lps_view(label_map)[0] for title, label_map in label_maps.items()}
    for title, array in maps.items():
        if array.shape != volume.shape:
            raise ValueError(f"{title} has shape {array.shape}, its CT {volume.shape} (Z, Y, X): give maps on its grid")
    palette = np.zeros((max(table.values(), default=0) + 1, 4))
    for label, colour in label_colours(table).items():
        palette[label] = (*(part / 255 for part in colour), OPACITY)
    counts = [_count(array, len(palette)) for array in maps.values()]
    occurring = np.any([axial.any(axis=0) for axial, _ in counts], axis=0)
    legend = {
        name: palette[label][:3] for name, label in table.items() if occurring[label] or len(table) <= LONGEST_LEGEND
    }
    views = _choose_views(*counts[0])
    depth, _, width = volume.shape
    if depth * spacing_mm[0] < LEAST_HEIGHT * width * spacing_mm[2]:
        views = [view for view in views if view[0] == 0]
    if window is None:
        drawn = np.concatenate([_slice(volume, *view).ravel() for view in views])
        low, high = (float(value) for value in np.percentile(drawn, WINDOW_PERCENTILES))
        window = low, high

    aspects = [spacing_mm[1 - axis] / spacing_mm[2] for axis, _ in views]  # of a pixel, height over width
    heights = [
        PANEL_INCHES * aspect * volume.shape[1 - axis] / volume.shape[2]
        for aspect, (axis, _) in zip(aspects, views, strict=True)
    ]
    figure, panels = _figure(heights, ["CT", *maps], legend)
    for row, aspect, (axis, index) in zip(panels, aspects, views, strict=True):
        for panel, title in zip(row, ["CT", *maps], strict=True):
            panel.imshow(
                _slice(volume, axis, index),
                cmap="gray",
                vmin=window[0],
                vmax=window[1],
                aspect=aspect,
            )
            if title in maps:
                overlay = palette[_known(_slice(maps[title], axis, index), len(palette))]
                panel.imshow(overlay, aspect=aspect, interpolation="nearest")
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH, facecolor="black", format="png")


def _known(labels: NDArray[Any], number: int) -> NDArray[np.intp]:
    """Return labels below ``number`` as they are, and others as background."""
    return np.where((labels >= 0) & (labels < number), labels, 0).astype(np.intp)


def _count(labels: NDArray[Any], number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the voxels of each label below ``number`` in each axial slice (Z, L) and each coronal one (Y, L).

    Foreground only, one axial slice at a time: memory for one slice, however large the volume.
    """
    depth, height, _ = labels.shape
    axial = np.zeros((depth, number), np.int64)
    coronal = np.zeros((height, number), np.int64)
    for z, labels_of_slice in enumerate(labels):
        rows, columns = np.nonzero(labels_of_slice)
        values = _known(labels_of_slice[rows, columns], number)
        by_row = np.bincount(rows * number + values, minlength=height * number).reshape(height, number)
        by_row[:, 0] = 0
        coronal += by_row
        axial[z] = by_row.sum(axis=0)
    return axial, coronal


def _choose_views(axial: NDArray[np.int64], coronal: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return (axis, index) of two axial slices with many organs, one high and one low, and of one coronal slice."""
    depth, height = len(axial), len(coronal)
    if depth == 1:
        return [(0, 0)]
    if not axial.any():
        return [(0, 2 * depth // 3), (0, depth // 3), (1, height // 2)]
    present = (axial > 0).sum(axis=1)  # labels per slice
    middle = int(np.median(np.flatnonzero(present)))
    best = _score(axial)
    high, low = middle + int(np.argmax(best[middle:])), int(np.argmax(best[: middle + 1]))
    return [*((0, index) for index in dict.fromkeys((high, low))), (1, int(np.argmax(_score(coronal))))]


def _score(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return of each slice (N, L) the number of labels, and behind the decimal point the share of their area."""
    return (counts > 0).sum(axis=1) + counts.sum(axis=1) / (counts.sum() + 1)


def _figure(
    heights: Sequence[float], titles: Sequence[str], legend: Mapping[str, NDArray[np.float64]]
) -> tuple[Figure, NDArray[Any]]:
    """Return a black figure and its panels (rows, columns).

    Args:
        heights: inches of each row.
        titles: of each column.
        legend: colour of each name below the panels.
    """
    heights = [min(max(height, LEAST_INCHES), MOST_INCHES) for height in heights]
    width = PANEL_INCHES * len(titles)
    legend_columns = max(1, int(width / LEGEND_COLUMN_INCHES))
    legend_inches = LEGEND_ROW_INCHES * (-(-len(legend) // legend_columns) + 1)
    height = TITLE_INCHES + sum(heights) + legend_inches
    figure = Figure(figsize=(width, height), facecolor="black")  # not pyplot's: those are global to the process
    panels = figure.subplots(len(heights), len(titles), squeeze=False, height_ratios=heights)
    for panel in panels.flat:
        panel.set_axis_off()
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set_title(title, color="white", fontsize=11)
    handles = [Patch(color=colour, label=name.replace("_", " ")) for name, colour in legend.items()]
    figure.legend(
        handles=handles, loc="lower center", ncol=legend_columns, frameon=False, labelcolor="white", fontsize=8
    )
    figure.subplots_adjust(
        left=0, right=1, top=1 - TITLE_INCHES / height, bottom=legend_inches / height, wspace=0.02, hspace=0.02
    )
    return figure, panels


def _slice(array: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    return array[index] if axis == 0 else array[::-1, index]  # coronal: head up
