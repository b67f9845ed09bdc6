"""Paints shapes onto a slab of slices, grey values and labels together, later shapes over earlier ones.

A voxel is covered by the share of its volume that lies inside the shape (partial volume): a linear ramp one pixel wide
in the plane, the mean of several thin slices along z. Where a shape covers more than half of it, it gets its label.
"""

from collections.abc import Callable

import numpy as np

from unetr_nnunet.phantom.acquisition import Z_SAMPLES
from unetr_nnunet.phantom.shapes import Box, FloatArray, Shape, Slab
from unetr_nnunet.phantom.tissue import AIR_HU, FAT_HU

Grey = float | Callable[[FloatArray, Box], FloatArray]
"""One HU value, or a function of the distance to the surface and the box painted."""


class Canvas:
    """Grey values and labels of one slab.

    Attributes:
        slab: the thin slices (Z * Z_SAMPLES, Y, X) that are painted on.
        labels: (Z, Y, X) uint8.
    """

    def __init__(self, slab: Slab, world_y_mm: FloatArray) -> None:
        self.slab = slab
        self.world_y_mm = world_y_mm
        self._hu = np.full(slab.shape, AIR_HU, np.float32)
        depth, height, width = slab.shape
        self.labels = np.zeros((depth // Z_SAMPLES, height, width), np.uint8)
        self.everything: Box = (slice(0, depth), slice(0, height), slice(0, width))

    @property
    def image_hu(self) -> FloatArray:
        """The slices (Z, Y, X) as the scanner sees them."""
        return _mean_of_samples(self._hu)

    def paint(
        self,
        shape: Shape,
        grey: Grey,
        label: int | None = 0,
        limits: tuple[FloatArray, ...] = (),
        fat_margin_mm: float = 0.0,
    ) -> None:
        """Paint a shape.

        Args:
            shape: what to paint.
            grey: its grey value.
            label: its label; None leaves the labels as they are.
            limits: distances over the whole slab; the shape is cut off where one of them is positive.
            fat_margin_mm: width of a layer of fat around the shape, which pushes back what was painted before.
        """
        box = self.slab.box(shape.bounds_mm, fat_margin_mm + self.slab.pixel_mm)
        if box is None:
            return
        distance = shape.distance(self.slab, box)
        for limit in limits:
            np.maximum(distance, limit[box], out=distance)
        if fat_margin_mm:
            # the margin ends where the shape is cut off, so that it never leaves the abdomen
            around = distance - np.float32(fat_margin_mm)
            for limit in limits:
                np.maximum(around, limit[box], out=around)
            self.fill(around, FAT_HU, box=box)
        self.fill(distance, grey, label, box)

    def fill(self, distance: FloatArray, grey: Grey, label: int | None = 0, box: Box | None = None) -> None:
        """Paint the points with negative ``distance``, given over ``box`` (the whole slab where None)."""
        box = box or self.everything
        coverage = np.clip(0.5 - distance / np.float32(self.slab.pixel_mm), 0, 1)
        if not coverage.any():
            return
        hu = grey(distance, box) if callable(grey) else np.float32(grey)
        self._hu[box] += coverage * (hu - self._hu[box])
        if label is not None:
            z, y, x = box
            part = self.labels[z.start // Z_SAMPLES : z.stop // Z_SAMPLES, y, x]
            part[_mean_of_samples(coverage) > 0.5] = label


def _mean_of_samples(samples: FloatArray) -> FloatArray:
    depth, height, width = samples.shape
    return samples.reshape(depth // Z_SAMPLES, Z_SAMPLES, height, width).mean(axis=1)


def in_layers(*layers: tuple[float, float]) -> Callable[[FloatArray, Box], FloatArray]:
    """Return a grey function of depth: pairs (depth in mm from which it holds, HU), from the surface inwards."""

    def grey(distance: FloatArray, box: Box) -> FloatArray:
        del box
        depths = np.array([depth for depth, _ in layers], np.float32)
        values = np.array([value for _, value in layers], np.float32)
        edge = np.float32(0.4)
        result = np.full(distance.shape, values[0], np.float32)
        for depth, before, after in zip(depths[1:], values, values[1:], strict=False):
            result += np.clip((-distance - depth) / edge + 0.5, 0, 1) * (after - before)
        return result

    return grey
