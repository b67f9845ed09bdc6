"""What surrounds the organs: skin, fat and muscle, ribs, spine and pelvis, lung bases, heart, and the table."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unetr_nnunet.phantom.anatomy import spine_y_mm
from unetr_nnunet.phantom.canvas import Canvas, in_layers
from unetr_nnunet.phantom.shapes import FAR_MM, Box, Ellipsoid, FloatArray, Shape, Slab, Tube
from unetr_nnunet.phantom.tissue import FAT_HU, Tissues

VERTEBRA_MM = 34.0
RIB_MM = 29.0
LOWEST_LUNG_MM = 5.0

Field = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]


class Implicit:
    """A shape given by a formula for its distance at (x, y, z)."""

    def __init__(self, lower: tuple[float, float, float], upper: tuple[float, float, float], field: Field) -> None:
        self.bounds_mm = np.array([lower, upper], np.float32)
        self._field = field

    def distance(self, slab: Slab, box: Box) -> FloatArray:
        """Return the signed distance in mm of the points of a box."""
        return self._field(*slab.at(box))


@dataclass(frozen=True)
class Build:
    """The build of a patient.

    Attributes:
        fat_mm: thickness of the subcutaneous fat at the flank.
        muscle_mm: thickness of the muscle wall at the flank.
        dome_mm: height of the right and left dome of the diaphragm.
    """

    fat_mm: float
    muscle_mm: float
    dome_mm: tuple[float, float]

    @property
    def width_mm(self) -> float:
        """Widest part of the body, in template millimetres."""
        return 2 * (CAVITY_MM[0] + self.muscle_mm + self.fat_mm)


CAVITY_MM = (128.0, 84.0)


def draw_build(rng: np.random.Generator) -> Build:
    """Draw the build of one patient."""
    dome = 131 + rng.normal(0, 3)
    return Build(float(rng.uniform(9, 30)), float(rng.uniform(10, 14)), (float(dome), float(dome - rng.uniform(8, 16))))


@dataclass(frozen=True)
class Limits:
    """Distances over a whole slab that other shapes are cut off with; positive is outside."""

    cavity: FloatArray
    diaphragm: FloatArray

    @property
    def abdomen(self) -> tuple[FloatArray, FloatArray]:
        """Below the diaphragm and within the abdominal wall, with a little room to spare."""
        return self.cavity + np.float32(2.0), self.diaphragm + np.float32(2.0)


def paint_body(canvas: Canvas, build: Build, tissues: Tissues) -> Limits:
    """Paint everything but the abdominal organs and return the limits of the abdomen."""
    hu = tissues.hu
    x, y, z = canvas.slab.coordinates_mm
    half_width, half_depth = _cavity_half_axes(z)
    hip = np.clip((-80 - z) / np.float32(60), 0, 1)
    cavity = _ellipse(x, y + 8, half_width, half_depth)
    muscle = _ellipse(x, y - 2, half_width + np.float32(build.muscle_mm) + 14 * hip, half_depth + 17 + 8 * hip)
    skin = _ellipse(
        x,
        y - 4,
        half_width + np.float32(build.muscle_mm + build.fat_mm) + 22 * hip,
        half_depth + np.float32(20 + 0.8 * build.fat_mm) + 8 * hip,
    )
    skin = np.maximum(skin, y - np.float32(104 + 0.75 * build.fat_mm))
    diaphragm = _diaphragm(canvas.slab, build)
    canvas.fill(skin, in_layers((0, hu["skin"]), (2.2, FAT_HU)))
    canvas.fill(muscle, hu["muscle"])
    # the fat plane between the oblique muscles, at the flanks only
    plane = np.maximum(np.abs(cavity - np.float32(0.45 * build.muscle_mm)) - np.float32(0.5), 70 - np.abs(x))
    canvas.fill(plane, FAT_HU + 40)
    canvas.fill(cavity, FAT_HU)
    limits = Limits(cavity, diaphragm)
    _paint_muscles(canvas, hu)
    _paint_chest(canvas, limits, hu)
    _paint_ribs(canvas, cavity, hu)
    _paint_spine(canvas, hu)
    _paint_pelvis(canvas, hu)
    return limits


def paint_table(canvas: Canvas, world_y_mm: FloatArray, world_x_mm: FloatArray, below_mm: float) -> None:
    """Paint a thin curved shell under the patient (world millimetres, the table does not bend with the body)."""
    radius = np.float32(520)
    shell = np.abs(np.hypot(world_x_mm, world_y_mm[:, None] - np.float32(below_mm) + radius) - radius) - np.float32(1.2)
    edge = np.abs(world_x_mm) - np.float32(215)
    flat = np.maximum(shell, edge).astype(np.float32)
    canvas.fill(np.broadcast_to(flat, canvas.slab.shape), -70.0, None)


def _cavity_half_axes(z: FloatArray) -> tuple[FloatArray, FloatArray]:
    away = np.square((z - np.float32(10)) / np.float32(150))
    return np.maximum(CAVITY_MM[0] - 9 * away, 95), np.maximum(CAVITY_MM[1] - 6 * away, 66)


def _ellipse(x: FloatArray, y: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    # np.hypot takes seven times as long as the plain root, and these are whole slabs
    along_x, along_y = np.square(x / a), np.square(y / b)
    near = np.sqrt(along_x + along_y)
    steep = np.sqrt(along_x / np.square(a) + along_y / np.square(b))
    return near * (near - 1) / np.maximum(steep, np.float32(1e-6))


def _diaphragm(slab: Slab, build: Build) -> FloatArray:
    """Return the distance above the diaphragm: two domes on a plane that falls to the back."""
    x, y, z = slab.coordinates_mm
    if float(z.max()) < -30:
        return np.full(slab.shape, -FAR_MM, np.float32)
    right, left = build.dome_mm
    base = (z - 46 + np.float32(0.32) * y) * np.float32(0.95)
    result = np.minimum(base, Ellipsoid((-66, -4, 28), (73, 92, right - 28)).distance_at(x, y, z))
    np.minimum(result, Ellipsoid((66, 0, 28), (72, 90, left - 28)).distance_at(x, y, z), out=result)
    return np.minimum(result, Ellipsoid((0, -6, 28), (62, 92, 78)).distance_at(x, y, z))


def _paint_chest(canvas: Canvas, limits: Limits, hu: dict[str, float]) -> None:
    x, y, z = canvas.slab.coordinates_mm
    if float(z.max()) < LOWEST_LUNG_MM:
        return
    chest = np.maximum(limits.cavity, -limits.diaphragm)
    canvas.fill(chest - 2, hu["muscle"])
    texture = np.sin(x / 5 + 2 * np.sin(z / 9)) * np.sin(y / 6 + 2 * np.sin(x / 11)) * np.sin(z / 7 + y / 8)
    vessels = np.clip((texture - 0.72) * 9, 0, 1) * np.float32(650)
    canvas.fill(chest, lambda distance, box: hu["lung"] + (y + 10)[box] * 0.35 + vessels[box])
    above = -limits.diaphragm
    middle = Implicit((-45, -20, 20), (55, 75, 400), lambda x, y, z: np.hypot((x - 6) / 1.05, y - 34) - 31)
    canvas.paint(middle, FAT_HU + 35, limits=(above, limits.cavity))
    heart = Ellipsoid((18, -36, 158), (66, 46, 48), (0, 0, 20))
    canvas.paint(
        heart, in_layers((0, FAT_HU + 30), (4, hu["muscle"] + 40), (11, hu["heart"])), limits=(above, limits.cavity)
    )
    for side in (-1, 1):
        crus = Tube([(side * 14 + 6, 34, 118), (side * 15 + 7, 28, 70), (side * 13 + 5, 30, 20), (side * 9, 32, -20)],
                    [2.5, 3.5, 4, 2])  # fmt: skip
        canvas.paint(crus, hu["muscle"])


def _paint_ribs(canvas: Canvas, cavity: FloatArray, hu: dict[str, float]) -> None:
    x, y, z = canvas.slab.coordinates_mm
    if float(z.max()) < -25:
        return
    near = np.abs(cavity - 6) < 11
    px, py, pz, from_cavity = x[near], y[near], z[near], cavity[near]
    turn = np.arctan2(np.abs(px), py + 8)
    between = np.mod(pz + 26 * turn, RIB_MM) - np.float32(RIB_MM / 2)
    rib = np.hypot((from_cavity - 6) * np.float32(1.5), between) / 1.2 - 4.6
    margin = -18 + 40 * np.maximum(turn - 1.1, 0)
    rib = np.maximum(rib, np.maximum(margin - pz, (0.42 - turn) * 60))
    distance = np.full(canvas.slab.shape, FAR_MM, np.float32)
    distance[near] = np.maximum(rib, (turn - np.float32(2.5)) * 60)
    canvas.fill(distance, in_layers((0, hu["cortical_bone"]), (1.8, hu["marrow"] + 60)))
    distance[near] = np.maximum(rib, (np.float32(2.5) - turn) * 60)
    canvas.fill(distance, 110.0)
    canvas.paint(Ellipsoid((0, -97, 160), (18, 6, 66)), in_layers((0, hu["cortical_bone"] * 0.6), (2, hu["marrow"])))


def _paint_muscles(canvas: Canvas, hu: dict[str, float]) -> None:
    heights = np.arange(210, -260, -30.0)
    for side in (-1, 1):
        at = np.full_like(heights, side * 33)
        erector = Tube(np.stack([at, spine_y_mm(heights) * 0.5 + 60, heights], axis=1), 25, flatten_y=1.45, step_mm=20)
        canvas.paint(erector, hu["muscle"], fat_margin_mm=1.2)
        psoas = Tube([(side * 27, 44, 40), (side * 37, 45, -15), (side * 46, 38, -85), (side * 56, 8, -150),
                      (side * 76, -28, -215), (side * 80, -20, -330)], [6, 15, 20, 19, 15, 14], step_mm=14)  # fmt: skip
        canvas.paint(psoas, hu["muscle"], fat_margin_mm=1.5)
        lumborum = Tube([(side * 62, 62, 25), (side * 70, 64, -40), (side * 74, 62, -100)], [6, 12, 11], flatten_y=1.3)
        canvas.paint(lumborum, hu["muscle"], fat_margin_mm=1.0)


def _paint_spine(canvas: Canvas, hu: dict[str, float]) -> None:
    body, arch, canal = _vertebra_fields()
    lower, upper = (-46.0, 10.0, -250.0), (46.0, 150.0, 400.0)

    def marrow_or_disc(distance: FloatArray, box: Box) -> FloatArray:
        bone = in_layers((0, hu["cortical_bone"] * 0.75), (1.6, hu["marrow"]))(distance, box)
        disc = np.clip((np.abs(_from_vertebra(canvas.slab.coordinates_mm[2][box])) - 13.2) / 1.2, 0, 1)
        return bone + disc * (np.float32(hu["disc"]) - bone)

    canvas.paint(Implicit(lower, upper, arch), in_layers((0, hu["cortical_bone"]), (1.8, hu["marrow"] + 90)))
    canvas.paint(Implicit(lower, upper, canal), hu["canal"])
    canvas.paint(Implicit(lower, upper, body), marrow_or_disc)


def _from_vertebra(z: FloatArray) -> FloatArray:
    return z - np.float32(VERTEBRA_MM) * np.round(z / np.float32(VERTEBRA_MM))


def _vertebra_fields() -> tuple[Field, Field, Field]:
    def body(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        waist = 1.6 * np.square(_from_vertebra(z) / np.float32(14))
        from_middle: FloatArray = np.hypot(x / np.float32(1.33), y - spine_y_mm(z))
        return from_middle - (np.float32(15.6) + waist)

    def canal(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        return np.hypot(x / np.float32(1.25), y - spine_y_mm(z) - 25) - np.float32(7.5)

    def arch(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        back, along = y - spine_y_mm(z), _from_vertebra(z)
        side = np.abs(x)
        ring = np.maximum(np.abs(np.hypot(x / np.float32(1.25), back - 25) - 10.5) - 2.6, np.abs(along + 2) - 10)
        process = np.maximum(side - 3.2, np.maximum(np.abs(back - 49) - 13, np.abs(along + 8) - 8))
        wings = np.hypot(back - 22, along - 3) - 3.6
        wings = np.maximum(wings, side - 40)
        facets = np.hypot(np.hypot(side - 16, back - 29), np.maximum(np.abs(along + 14) - 6, 0)) - 6
        return np.minimum(np.minimum(ring, process), np.minimum(np.where(side > 12, wings, FAR_MM), facets))

    return body, arch, canal


def _paint_pelvis(canvas: Canvas, hu: dict[str, float]) -> None:
    if float(canvas.slab.coordinates_mm[2].min()) > -80:
        return
    bone = in_layers((0, hu["cortical_bone"]), (2.2, hu["marrow"]))
    shell = Ellipsoid((0, 4, -128), (124, 84, 92))
    thin = Implicit((-125, -60, -215), (125, 90, -70),
                    lambda x, y, z: np.maximum(np.maximum(np.abs(shell.distance_at(x, y, z) + 2) - 4.5, 34 - np.abs(x)),
                                               np.maximum(z + 82 + np.abs(y) * 0.25, -38 - y)))  # fmt: skip
    solid: list[Shape] = [thin, Ellipsoid((0, 72, -160), (48, 22, 52), (25, 0, 0))]
    for side in (-1, 1):
        solid += [Ellipsoid((side * 70, 4, -222), (26, 28, 30)), Ellipsoid((side * 88, 6, -228), (25, 25, 25)),
                  Tube([(side * 88, 6, -228), (side * 116, 10, -256), (side * 112, 10, -400)], [15, 17, 15]),
                  Tube([(side * 70, -6, -222), (side * 34, -40, -248), (side * 4, -46, -256)], [14, 10, 9]),
                  ]  # fmt: skip
    for shape in solid:
        canvas.paint(shape, bone)
    canvas.paint(
        Ellipsoid((0, -26, -218), (42, 34, 30)), in_layers((0, hu["muscle"]), (3, hu["urine"])), fat_margin_mm=2
    )
