"""Find the surfaces of all labels of a label map in one pass over its voxels.

Where the neighbours of a voxel, or the eight voxels around a corner, are all alike there is no surface. That is nearly
everywhere and holds for all labels at once, so that only what is left is looked at label by label; a label's stray
voxels far away cost nothing, as they would if each label were worked out in its bounding box.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LabelMap = npt.NDArray[np.integer]
Places = npt.NDArray[np.int64]
BoolVolume = npt.NDArray[np.bool_]

CORE, FIRST, LAST = slice(1, -1), slice(None, -1), slice(1, None)


@dataclass(frozen=True)
class Surface:
    """Both surfaces of one label (see ``surface_distance``), in steps of voxels along (Z, Y, X).

    Attributes:
        voxels: places (N, 3) of its voxels of which one of six neighbours is another label.
        elements: places (M, 3) of the corners that its voxels and others meet at; the corner (0, 0, 0) is that of the
            voxel (0, 0, 0) nearest to the origin.
        codes: which of the eight voxels around each corner (M,) are the label, a bit for each, in the order of
            ``surface_distance.lookup_tables``.
    """

    voxels: Places
    elements: Places
    codes: npt.NDArray[np.uint8]


def find_surfaces(label_map: LabelMap, highest_label: int) -> list[Surface]:
    """Return the surface of each label from 1 on, with no points where there is no such label.

    Args:
        label_map: (Z, Y, X), 0 is background; so is all around it.
        highest_label: the label of the last surface.
    """
    padded = np.pad(label_map, 1)
    steps = (
        padded[LAST] != padded[FIRST],
        padded[:, LAST] != padded[:, FIRST],
        padded[..., LAST] != padded[..., FIRST],
    )
    voxels = np.argwhere(_has_other_neighbour(*steps) & (label_map != 0))
    labels = label_map[tuple(voxels.T)]
    corners = np.argwhere(_is_mixed_corner(*steps))
    around = _labels_around(padded, corners)
    largest = around.max(axis=0)
    alone = np.all((around == largest) | (around == 0), axis=0)  # nearly everywhere one label meets the background
    codes_alone = np.packbits(around != 0, axis=0)[0]
    largest[~alone] = 0
    shared = np.flatnonzero(~alone)
    around_shared = around[:, shared]
    surfaces = []
    for label in range(1, highest_label + 1):
        codes = np.packbits(around_shared == label, axis=0)[0]
        here, mine = np.flatnonzero(largest == label), np.flatnonzero(codes)
        places = np.concatenate([here, shared[mine]])
        surface = Surface(voxels[labels == label], corners[places], np.concatenate([codes_alone[here], codes[mine]]))
        surfaces.append(surface)
    return surfaces


def _has_other_neighbour(step_z: BoolVolume, step_y: BoolVolume, step_x: BoolVolume) -> BoolVolume:
    """Return for each voxel (Z, Y, X) whether one of its six neighbours differs from it."""
    other = step_z[FIRST, CORE, CORE] | step_z[LAST, CORE, CORE]
    for side in (FIRST, LAST):
        other |= step_y[CORE, side, CORE]
        other |= step_x[CORE, CORE, side]
    return other


def _is_mixed_corner(step_z: BoolVolume, step_y: BoolVolume, step_x: BoolVolume) -> BoolVolume:
    """Return for each corner (Z + 1, Y + 1, X + 1) whether the eight voxels around it are not all alike.

    Seven steps that reach all eight voxels tell.
    """
    mixed = step_z[:, FIRST, FIRST] | step_y[FIRST, :, FIRST]
    mixed |= step_y[LAST, :, FIRST]
    for z in (FIRST, LAST):
        for y in (FIRST, LAST):
            mixed |= step_x[z, y]
    return mixed


def _labels_around(padded: LabelMap, corners: Places) -> LabelMap:
    """Return the labels (8, M) around corners (M, 3)."""
    _, rows, columns = padded.shape
    first = np.ravel_multi_index(tuple(corners.T), padded.shape)
    steps = [(z * rows + y) * columns + x for z in (0, 1) for y in (0, 1) for x in (0, 1)]
    return np.stack([padded.ravel()[first + step] for step in steps])
