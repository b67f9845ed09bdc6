"""Find the left-right axis of nnU-Net's arrays, so that mirroring can leave it alone.

nnU-Net mirrors along all axes by default, in training and in prediction, so only its neighbours tell a left kidney from
a right one.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from unetr_nnunet.images.orientation import array_orientation


def left_right_axis(properties: dict[str, Any], transpose_forward: Sequence[int]) -> int:
    """Return the array axis along which a preprocessed case runs from left to right.

    Args:
        properties: the case's properties as nnU-Net stores them beside its preprocessed data.
        transpose_forward: the plans' order of axes: preprocessed axis i is axis ``transpose_forward[i]`` of the image
            as read, (z, y, x).

    Returns:
        0, 1 or 2.

    Raises:
        ValueError: if the properties hold no direction.
    """
    try:
        code = array_orientation(properties)
    except ValueError as error:
        raise ValueError(f"{error}; drop NoLRFlip from the trainer's name") from error
    index_axis = next(axis for axis, end in enumerate(code) if end in "LR")  # of (x, y, z)
    return list(transpose_forward).index(2 - index_axis)


def common_left_right_axis(cases: Iterable[tuple[str, dict[str, Any]]], transpose_forward: Sequence[int]) -> int:
    """Return the left-right axis that all cases share.

    Args:
        cases: (name, properties) of each case.
        transpose_forward: see `left_right_axis`.

    Raises:
        ValueError: if the cases disagree; both are named.
    """
    case_by_axis: dict[int, str] = {}
    for name, properties in cases:
        case_by_axis.setdefault(left_right_axis(properties, transpose_forward), name)
    if len(case_by_axis) != 1:
        described = ", ".join(f"axis {axis} in {name}" for axis, name in sorted(case_by_axis.items()))
        raise ValueError(
            f"left and right lie along different axes ({described or 'no cases'}): convert the data set with "
            'the reader "NibabelIOWithReorient" in dataset.json, or drop NoLRFlip from the trainer\'s name'
        )
    return next(iter(case_by_axis))


def spatial_axes_without(axis: int, mirror_axes: Sequence[int], dimensions: int) -> tuple[int, ...]:
    """Return a patch's ``mirror_axes`` without one axis of the preprocessed volume.

    Args:
        axis: axis of the volume, 0..2.
        mirror_axes: axes of the patch.
        dimensions: axes of the patch; a 2-D patch lies in axes 1 and 2 of the volume.
    """
    return tuple(mirrored for mirrored in mirror_axes if mirrored != axis - (3 - dimensions))
