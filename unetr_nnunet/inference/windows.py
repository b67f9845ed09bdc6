"""Where the network looks, and in which mirrored view.

nnU-Net runs every mirrored view of every window: with half a window of overlap and three mirror axes each voxel is seen
64 times. Here neighbouring windows take different views: windows at odd places along an axis are mirrored along it.
Inside an image, the eight windows over a voxel then are its eight views, once each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product

from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

OVERLAP = 0.5
"""Of a window with the next, along each axis; nnU-Net's default."""

CORE = 0.75
"""Middle part of a window, along each axis. Voxels nearer to its edge lie nearer to the middle of the next window too,
whose weight there, by nnU-Net's Gaussian of an eighth of the window, is 50 times as large."""


@dataclass(frozen=True)
class Window:
    """One place of the sliding window.

    Attributes:
        start: first voxel per axis.
        views: axes to mirror, for each view that is run; their mean is the window's result.
        core: first and one past the last voxel, per axis, of what the window has a say in; see `CORE`.
        is_first: whether it belongs to the first pass, whose windows hardly overlap and cover the image.
    """

    start: tuple[int, ...]
    views: tuple[tuple[int, ...], ...]
    core: tuple[tuple[int, int], ...]
    is_first: bool


def all_views(mirror_axes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return every combination of mirrored axes, the image as it is first, as nnU-Net runs them."""
    return tuple(chain.from_iterable(combinations(mirror_axes, count) for count in range(len(mirror_axes) + 1)))


def place_windows(
    shape: Sequence[int], patch: Sequence[int], mirror_axes: Sequence[int], every_view: bool = False
) -> list[Window]:
    """Cover an image with windows.

    Args:
        shape: voxels per axis of the image, at least those of the patch.
        patch: voxels per axis of a window.
        mirror_axes: axes along which the model may be shown a mirrored image.
        every_view: whether to run all views of every window, as nnU-Net does.

    Returns:
        The windows in nnU-Net's places and order.
    """
    starts = compute_steps_for_sliding_window(tuple(shape), tuple(patch), OVERLAP)
    windows = []
    for place in product(*(range(len(axis)) for axis in starts)):
        start = tuple(axis[index] for axis, index in zip(starts, place, strict=True))
        views = all_views(mirror_axes) if every_view else _own_views(place, starts, mirror_axes)
        first = all(index % 2 == 0 or index == len(axis) - 1 for axis, index in zip(starts, place, strict=True))
        core = tuple(map(_core, starts, place, patch, shape))
        windows.append(Window(start, views, core, first))
    return windows


def _core(starts: Sequence[int], index: int, length: int, image_length: int) -> tuple[int, int]:
    """Return a window's core along one axis; to the image's end where there is no next window."""
    margin = round(length * (1 - CORE) / 2)
    start = starts[index] + margin if index > 0 else 0
    stop = starts[index] + length - margin if index < len(starts) - 1 else image_length
    return start, stop


def _own_views(
    place: Sequence[int], starts: Sequence[Sequence[int]], mirror_axes: Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    """Return a window's share of the views; along an axis with one window only, nobody else has the mirrored one."""
    choices = [(False, True) if len(starts[axis]) == 1 else (place[axis] % 2 == 1,) for axis in mirror_axes]
    return tuple(
        tuple(axis for axis, mirrored in zip(mirror_axes, choice, strict=True) if mirrored)
        for choice in product(*choices)
    )
