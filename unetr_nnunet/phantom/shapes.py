"""Closed surfaces as signed distances in millimetres, evaluated only where they can matter.

Distances are negative inside. The bound for ellipsoids and the smooth union are the approximations collected by
I. Quilez ("Distance functions", "Smooth minimum"), right near the surface, which is all that partial volume needs.
Coordinates are template millimetres (x to the patient's left, y to the back, z to the head), arrays are (Z, Y, X).
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.spatial.transform import Rotation

FloatArray = NDArray[np.floating[Any]]
Box = tuple[slice, slice, slice]
FAR_MM = 1000.0


class Slab:
    """A stack of slices with the template position of each of its points.

    Args:
        coordinates_mm: x, y and z of each point, three arrays (Z, Y, X).
        pixel_mm: in-plane distance of neighbouring points.
        z_multiple: boxes start and end at multiples of this many slices.
    """

    def __init__(
        self, coordinates_mm: tuple[FloatArray, FloatArray, FloatArray], pixel_mm: float, z_multiple: int
    ) -> None:
        self.coordinates_mm = coordinates_mm
        self.shape = coordinates_mm[0].shape
        self.pixel_mm = pixel_mm
        self._z_multiple = z_multiple
        self._step = max(2, round(6.0 / pixel_mm))
        self._pad_mm = 1.5 * self._step * pixel_mm
        self._coarse = [np.ascontiguousarray(c[:, :: self._step, :: self._step]) for c in coordinates_mm]
        # lowest and highest value of the coordinate that mostly runs along an array axis, per index of that axis
        self._ranges = []
        for axis, coordinate in enumerate(reversed(self._coarse)):
            others = tuple(other for other in range(3) if other != axis)
            self._ranges.append((coordinate.min(axis=others), coordinate.max(axis=others)))

    def box(self, bounds_mm: FloatArray, margin_mm: float = 0.0) -> Box | None:
        """Return index ranges that hold every point within ``bounds_mm`` (2, 3) widened by a margin, or None."""
        lower, upper = bounds_mm[0] - margin_mm - self._pad_mm, bounds_mm[1] + margin_mm + self._pad_mm
        outer = []
        for (lows, highs), low, high in zip(self._ranges, lower[::-1], upper[::-1], strict=True):
            hits = np.flatnonzero((lows <= high) & (highs >= low))
            if not len(hits):
                return None
            outer.append(slice(int(hits[0]), int(hits[-1]) + 1))
        coarse = [c[tuple(outer)] for c in self._coarse]
        inside = (coarse[0] >= lower[0]) & (coarse[0] <= upper[0])
        for axis in (1, 2):
            inside &= (coarse[axis] >= lower[axis]) & (coarse[axis] <= upper[axis])
        ranges = []
        for axis, others in enumerate(((1, 2), (0, 2), (0, 1))):
            hits = np.flatnonzero(inside.any(axis=others)) + outer[axis].start
            if not len(hits):
                return None
            step = self._step if axis else 1
            start, stop = int(hits[0]) * step, (int(hits[-1]) + 1) * step
            if axis == 0:
                start, stop = start - start % self._z_multiple, stop + -stop % self._z_multiple
            ranges.append(slice(start, min(stop, self.shape[axis])))
        return ranges[0], ranges[1], ranges[2]

    def at(self, box: Box) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return x, y and z of the points of a box, as views."""
        x, y, z = self.coordinates_mm
        return x[box], y[box], z[box]


class Shape(Protocol):
    """Anything with a signed distance."""

    bounds_mm: FloatArray
    """Lower and upper corner (2, 3), in x, y, z."""

    def distance(self, slab: Slab, box: Box) -> FloatArray:
        """Return the signed distance in mm of the points of a box."""
        ...


class Ellipsoid:
    """An ellipsoid, turned by ``degrees`` about x, then y, then z."""

    def __init__(self, center: ArrayLike, radii: ArrayLike, degrees: tuple[float, float, float] = (0, 0, 0)) -> None:
        self.center = np.asarray(center, np.float32)
        self.radii = np.asarray(radii, np.float32)
        self.rotation = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix().astype(np.float32)
        reach = np.sqrt(((self.rotation * self.radii) ** 2).sum(axis=1))
        self.bounds_mm = np.stack([self.center - reach, self.center + reach])

    def distance(self, slab: Slab, box: Box) -> FloatArray:
        """Return the signed distance in mm of the points of a box."""
        return self.distance_at(*slab.at(box))

    def distance_at(self, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        """Return the signed distance in mm of points."""
        offsets = x - self.center[0], y - self.center[1], z - self.center[2]
        plain = bool((self.rotation == np.eye(3, dtype=np.float32)).all())
        near, steep = np.zeros_like(offsets[0]), np.full_like(offsets[0], 1e-12)
        for axis in range(3):
            along = offsets[axis] if plain else sum(offsets[i] * self.rotation[i, axis] for i in range(3))
            unit = along / self.radii[axis]
            np.square(unit, out=unit)
            near += unit
            unit /= self.radii[axis] ** 2
            steep += unit
        np.sqrt(near, out=near)
        return near * (near - 1) / np.sqrt(steep)


class Tube:
    """A smooth curve through ``points`` with a radius at each; ``flatten_y`` > 1 makes it flat from front to back."""

    def __init__(self, points: ArrayLike, radii: ArrayLike, flatten_y: float = 1.0, step_mm: float = 8.0) -> None:
        nodes = np.asarray(points, np.float64)
        thickness = np.broadcast_to(np.asarray(radii, np.float64), len(nodes))
        arc_mm = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(nodes, axis=0), axis=1))])
        at = np.linspace(0, arc_mm[-1], max(2, round(arc_mm[-1] / step_mm) + 1))
        self.points = CubicSpline(arc_mm, nodes)(at).astype(np.float32)
        self.radii = PchipInterpolator(arc_mm, thickness)(at).astype(np.float32)
        self.flatten_y = np.float32(flatten_y)
        reach = self.radii[:, None]
        ends = np.stack([self.points - reach, self.points + reach])
        self._segments_mm = [
            np.stack([ends[0, i : i + 2].min(0), ends[1, i : i + 2].max(0)]) for i in range(len(at) - 1)
        ]
        self.bounds_mm = np.stack([ends[0].min(0), ends[1].max(0)])

    def distance(self, slab: Slab, box: Box) -> FloatArray:
        """Return the signed distance in mm of the points of a box; ``FAR_MM`` well away from the tube."""
        shape = tuple(part.stop - part.start for part in box)
        result = np.full(shape, FAR_MM, np.float32)
        for number, bounds_mm in enumerate(self._segments_mm):
            near = slab.box(bounds_mm, margin_mm=8.0)
            if near is None:
                continue
            lows = [max(a.start, b.start) for a, b in zip(near, box, strict=True)]
            highs = [min(a.stop, b.stop) for a, b in zip(near, box, strict=True)]
            if any(low >= high for low, high in zip(lows, highs, strict=True)):
                continue
            world = (slice(lows[0], highs[0]), slice(lows[1], highs[1]), slice(lows[2], highs[2]))
            local = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(world, box, strict=True))
            np.minimum(result[local], self._segment(number, *slab.at(world)), out=result[local])
        return result

    def _segment(self, number: int, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        start, stop = self.points[number], self.points[number + 1]
        flat = np.array([1, self.flatten_y, 1], np.float32)
        run = (stop - start) * flat
        px, py, pz = x - start[0], (y - start[1]) * self.flatten_y, z - start[2]
        along = np.clip((px * run[0] + py * run[1] + pz * run[2]) / np.float32(run @ run + 1e-9), 0, 1)
        px -= along * run[0]
        py -= along * run[1]
        pz -= along * run[2]
        radius = self.radii[number] + along * (self.radii[number + 1] - self.radii[number])
        return np.sqrt(px * px + py * py + pz * pz) - radius


class Plate:
    """A flat box with rounded rim, ``2 * thickness`` thick, spanned by two half-axes from its center."""

    def __init__(self, center: ArrayLike, half_length: ArrayLike, half_height: ArrayLike, thickness: float) -> None:
        self.center = np.asarray(center, np.float32)
        spans = [np.asarray(half_length, np.float64), np.asarray(half_height, np.float64)]
        self._sizes = [np.float32(np.linalg.norm(span)) for span in spans]
        first = spans[0] / self._sizes[0]
        second = spans[1] - first * (spans[1] @ first)
        second /= np.linalg.norm(second)
        self._axes = np.stack([first, second, np.cross(first, second)]).astype(np.float32)
        self._thickness = np.float32(thickness)
        reach = np.abs(spans[0]) + np.abs(spans[1]) + thickness
        self.bounds_mm = np.stack([self.center - reach, self.center + reach]).astype(np.float32)

    def distance(self, slab: Slab, box: Box) -> FloatArray:
        """Return the signed distance in mm of the points of a box."""
        offsets = [c - o for c, o in zip(slab.at(box), self.center, strict=True)]
        along = [sum(o * a for o, a in zip(offsets, axis, strict=True)) for axis in self._axes]
        excess = [np.maximum(np.abs(a) - s, 0) for a, s in zip(along, [*self._sizes, np.float32(0)], strict=True)]
        return np.sqrt(sum(np.square(e) for e in excess)) - self._thickness


class Blend:
    """The smooth union of ``parts``, less the smoothly carved ``hollows``; ``blend_mm`` is the width of the seams."""

    def __init__(self, parts: Sequence[Shape], hollows: Sequence[Shape] = (), blend_mm: float = 10.0) -> None:
        self._parts, self._hollows, self._blend_mm = parts, hollows, np.float32(blend_mm)
        self.bounds_mm = np.stack(
            [
                np.min([p.bounds_mm[0] for p in parts], axis=0),
                np.max([p.bounds_mm[1] for p in parts], axis=0),
            ]
        )

    def distance(self, slab: Slab, box: Box) -> FloatArray:
        """Return the signed distance in mm of the points of a box."""
        result = self._parts[0].distance(slab, box)
        for part in self._parts[1:]:
            result = smooth_minimum(result, part.distance(slab, box), self._blend_mm)
        for hollow in self._hollows:
            result = -smooth_minimum(-result, hollow.distance(slab, box), self._blend_mm)
        return result


def smooth_minimum(a: FloatArray, b: FloatArray, blend_mm: float | np.float32) -> FloatArray:
    """Return the smaller of two distances with the seam rounded off over ``blend_mm``."""
    seam = np.maximum(np.float32(blend_mm) - np.abs(a - b), 0)
    np.square(seam, out=seam)
    seam *= np.float32(0.25 / blend_mm)
    return np.minimum(a, b) - seam
