"""What is measured of each organ of a label map on the network's grid: volume, mean HU, parts, place, border.

Training labels and predictions are measured by the same code, so that they can be compared.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage

SPECK_SHARE = 0.05
"""A connected part with a smaller share of its organ's voxels is a speck: it does not count as a part."""

BORDER_SECTION = 0.1
"""An organ touches the border where its section there has this share of its largest along the axis; a tip does not."""

PATIENT_AXES = ("LR", "PA", "SI")
"""The ends of each axis of a place: it grows to the patient's left, back and head."""

Sides = tuple[tuple[bool, bool], ...]
"""Whether the first and the last slice along each axis of a grid are the image's own."""


@dataclass(frozen=True)
class OrganMeasures:
    """One organ of one case.

    Attributes:
        volume_ml: volume.
        mean_hu: mean of the first channel, clipped as the network sees it; None where that is not in HU.
        parts: connected parts (by faces, edges or corners), specks left out.
        place_mm: centre of gravity, growing to the patient's left, back and head, from an arbitrary origin; None where
            the orientation is unknown.
        border_mm: to the first and the last slice of the image along each axis; 0 where that cuts off more than a tip,
            infinite where the grid ends elsewhere than the image.
    """

    volume_ml: float
    mean_hu: float | None
    parts: int
    place_mm: tuple[float, float, float] | None
    border_mm: tuple[float, ...]

    @property
    def at_border(self) -> bool:
        """Whether the border of the image cuts the organ off."""
        return min(self.border_mm) == 0


@dataclass(frozen=True)
class Intensities:
    """A CT's voxels as nnU-Net's CTNormalization leaves them, and the way back to HU.

    Attributes:
        values: (Z, Y, X), normalised.
        mean_hu: what has been subtracted.
        std_hu: what it has been divided by.
    """

    values: npt.NDArray[np.floating[Any]]
    mean_hu: float
    std_hu: float


def ct_intensities(values: npt.NDArray[np.floating[Any]], plans: Mapping[str, Any], scheme: str) -> Intensities | None:
    """Return a first channel (Z, Y, X) with its way back to HU; None where ``scheme`` is not nnU-Net's for CTs.

    Args:
        values: as preprocessed.
        plans: content of the plans file.
        scheme: name of the channel's normalisation.
    """
    properties = plans.get("foreground_intensity_properties_per_channel", {}).get("0")
    if scheme != "CTNormalization" or properties is None:
        return None
    return Intensities(values, float(properties["mean"]), max(float(properties["std"]), 1e-8))


def axis_ends(code: str, transpose_forward: Sequence[int]) -> str:
    """Return the ends of the patient, such as "SPL", that the axes of a preprocessed array run to.

    Args:
        code: orientation code of the image as read, of its axes x, y, z.
        transpose_forward: the plans' order of axes: array axis i is axis ``transpose_forward[i]`` of (z, y, x).
    """
    return "".join(code[2 - axis] for axis in transpose_forward)


def measure_organs(
    labels: npt.NDArray[np.integer[Any]],
    integers: Mapping[str, Sequence[int]],
    spacing_mm: Sequence[float],
    ends: str | None = None,
    intensities: Intensities | None = None,
    sides: Sides = ((True, True),) * 3,
) -> dict[str, OrganMeasures]:
    """Measure the organs of a label map.

    Args:
        labels: (Z, Y, X), in any order of axes; negative where nothing was annotated.
        integers: of each organ, or of each region, by name.
        spacing_mm: size of a voxel along the array's axes.
        ends: see `axis_ends`; None where the orientation is unknown.
        intensities: of the same grid; None where they are not in HU.
        sides: which sides of the grid are sides of the image, too.

    Returns:
        The organs that are there, in the order of ``integers``.
    """
    boxes = _boxes(labels, max((label for several in integers.values() for label in several), default=0))
    measures = {}
    for organ, several in integers.items():
        box = _union([boxes[label] for label in several if label in boxes])
        if box is not None:
            mask = np.isin(labels[box], list(several))
            measures[organ] = _measure(mask, box, labels.shape, spacing_mm, ends, intensities, sides)
    return measures


def _boxes(labels: npt.NDArray[np.integer[Any]], highest: int) -> dict[int, tuple[slice, ...]]:
    """Return the box of each label that is there."""
    positive = labels if labels.dtype.kind == "u" else np.maximum(labels, 0)
    found = ndimage.find_objects(positive, max_label=max(highest, 1))
    return {label: box for label, box in enumerate(found, 1) if box is not None}


def _union(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...] | None:
    if not boxes:
        return None
    return tuple(
        slice(min(side.start for side in axis), max(side.stop for side in axis)) for axis in zip(*boxes, strict=True)
    )


def _measure(
    mask: npt.NDArray[np.bool_],
    box: tuple[slice, ...],
    shape: tuple[int, ...],
    spacing_mm: Sequence[float],
    ends: str | None,
    intensities: Intensities | None,
    sides: Sides,
) -> OrganMeasures:
    numbered, count = cc3d.connected_components(mask, connectivity=26, return_N=True)
    voxels = np.bincount(numbered.ravel(), minlength=count + 1)
    total = int(voxels[1:].sum())
    is_part = voxels >= SPECK_SHARE * total
    is_part[0] = False
    mean_hu = None
    if intensities is not None:
        mean = float(intensities.values[box][mask].mean(dtype=np.float64))
        mean_hu = mean * intensities.std_hu + intensities.mean_hu
    return OrganMeasures(
        volume_ml=float(total * np.prod(spacing_mm) / 1000),
        mean_hu=mean_hu,
        parts=int(is_part.sum()),
        place_mm=None if ends is None else _place(mask, box, spacing_mm, ends),
        border_mm=_border_mm(numbered, is_part, box, shape, spacing_mm, sides),
    )


def _place(
    mask: npt.NDArray[np.bool_], box: tuple[slice, ...], spacing_mm: Sequence[float], ends: str
) -> tuple[float, float, float]:
    """Return the centre of gravity, growing to the patient's left, back and head."""
    place = [0.0, 0.0, 0.0]
    for axis, (side, spacing, end) in enumerate(zip(box, spacing_mm, ends, strict=True)):
        profile = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        centre = spacing * (side.start + float(np.arange(len(profile)) @ profile / profile.sum()))
        patient_axis = next(number for number, both in enumerate(PATIENT_AXES) if end in both)
        place[patient_axis] = centre if end == PATIENT_AXES[patient_axis][0] else -centre
    return place[0], place[1], place[2]


def _border_mm(
    numbered: npt.NDArray[np.integer[Any]],
    is_part: npt.NDArray[np.bool_],
    box: tuple[slice, ...],
    shape: tuple[int, ...],
    spacing_mm: Sequence[float],
    sides: Sides,
) -> tuple[float, ...]:
    """Return the distance to each side of the image; a tip that touches it is a voxel away."""
    distances = []
    for axis, (side, length, spacing, ends) in enumerate(zip(box, shape, spacing_mm, sides, strict=True)):
        sections = (numbered > 0).sum(axis=tuple(other for other in range(3) if other != axis))
        gaps = (side.start, length - side.stop)
        for is_image_side, gap, slice_number in zip(ends, gaps, (0, -1), strict=True):
            section = is_part[numbered.take(slice_number, axis)].sum()
            is_tip = section < max(1, BORDER_SECTION * sections.max())
            distances.append(spacing * (gap or int(is_tip)) if is_image_side else math.inf)
    return tuple(map(float, distances))
