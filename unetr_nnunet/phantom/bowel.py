"""Bowel: loops with fluid, stool and gas, unlabelled; in look and place close to the stomach and the pancreas."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unetr_nnunet.phantom.body import Limits
from unetr_nnunet.phantom.canvas import Canvas, Grey
from unetr_nnunet.phantom.shapes import Box, FloatArray, Shape, Tube
from unetr_nnunet.phantom.tissue import Tissues

GAS_HU = -960.0
SMALL_BOWEL_TUBES = 12
POINTS_PER_TUBE = 8
MESENTERIC_VESSELS = 14


@dataclass(frozen=True)
class Bowel:
    """Loops of one patient and the vessels that fan out to them.

    ``stool`` holds stool and specks of gas, ``gas`` a gas level, ``fluid`` mostly fluid.
    """

    stool: list[Shape]
    gas: list[Shape]
    fluid: list[Shape]
    vessels: list[Shape]
    phases: FloatArray


def draw_bowel(rng: np.random.Generator) -> Bowel:
    """Draw the course of colon and small bowel."""

    def tube(points: Sequence[tuple[float, float, float]], radii: list[float]) -> Shape:
        moved = np.array(points) + np.clip(rng.normal(0, 4, (len(points), 3)), -8, 8)
        return Tube(moved, np.array(radii) * rng.uniform(0.85, 1.1), step_mm=10)

    ascending = [(-88, 12, -120), (-96, 14, -90), (-99, 16, -55), (-92, 4, -34), (-78, -22, -32)]
    transverse = [
        (-78, -22, -32),
        (-58, -66, -40),
        (-20, -76, -52),
        (22, -76, -46),
        (62, -66, -18),
        (92, -34, 14),
        (100, -8, 28),
    ]
    descending = [
        (100, -8, 28),
        (110, 14, 10),
        (108, 24, -30),
        (100, 22, -80),
        (88, 2, -130),
        (48, -10, -165),
        (10, 30, -185),
    ]
    return Bowel(
        stool=[tube(ascending, [20, 24, 22, 20, 18]), tube(descending, [15, 13, 12.5, 13, 14, 15, 14])],
        gas=[tube(transverse, [17, 18, 17, 18, 18, 17, 16])],
        fluid=_small_bowel(rng),
        vessels=_mesentery(rng),
        phases=rng.uniform(0, 2 * np.pi, 6).astype(np.float32),
    )


def _small_bowel(rng: np.random.Generator) -> list[Shape]:
    count = SMALL_BOWEL_TUBES * (POINTS_PER_TUBE - 1) + 1
    angle = np.cumsum(rng.uniform(0.5, 1.3, count) * rng.choice([-1, 1], count, p=[0.25, 0.75]))
    reach = np.sqrt(rng.uniform(0.12, 1, count))
    height = np.linspace(-38, -175, count) + rng.normal(0, 13, count)
    points = np.stack([2 + 74 * reach * np.cos(angle), -36 + 40 * reach * np.sin(angle), height], axis=1)
    radii = rng.uniform(9.5, 13.5, count)
    starts = range(0, count - 1, POINTS_PER_TUBE - 1)
    return [Tube(points[i : i + POINTS_PER_TUBE], radii[i : i + POINTS_PER_TUBE], step_mm=10) for i in starts]


def _mesentery(rng: np.random.Generator) -> list[Shape]:
    vessels: list[Shape] = []
    for angle in np.linspace(-2.6, 0.3, MESENTERIC_VESSELS) + rng.normal(0, 0.12, MESENTERIC_VESSELS):
        root = np.array([-6, -20, rng.uniform(-60, -15)])
        reach = rng.uniform(45, 70) * np.cos(angle), rng.uniform(25, 45) * np.sin(angle), rng.uniform(-70, -25)
        end = root + np.array(reach)
        middle = (root + end) / 2 + rng.normal(0, 6, 3)
        vessels.append(Tube([root, middle, end], [2.4, 2.0, 1.3]))
    return vessels


def paint_bowel(canvas: Canvas, bowel: Bowel, limits: Limits, tissues: Tissues) -> None:
    """Paint all loops, the small bowel first."""
    hu = tissues.hu
    abdomen = limits.abdomen
    for vessel in bowel.vessels:
        canvas.paint(vessel, hu["vena_cava"], limits=abdomen)
    for shape in bowel.fluid:
        canvas.paint(
            shape,
            _content(canvas, bowel, hu["bowel_wall"], 2.2, hu["oral_contrast"], 0.9),
            limits=abdomen,
            fat_margin_mm=0.7,
        )
    for shape in bowel.stool:
        canvas.paint(shape, _stool(canvas, bowel, hu["bowel_wall"] - 15), limits=abdomen, fat_margin_mm=1.5)
    for shape in bowel.gas:
        canvas.paint(
            shape, _content(canvas, bowel, hu["bowel_wall"] - 15, 2.0, 25.0, -0.2), limits=abdomen, fat_margin_mm=1.0
        )


def _content(canvas: Canvas, bowel: Bowel, wall_hu: float, wall_mm: float, fluid_hu: float, gas_above: float) -> Grey:
    """Return wall, fluid, and gas where a slow texture is above a threshold."""
    p = bowel.phases

    def grey(distance: FloatArray, box: Box) -> FloatArray:
        x, y, z = canvas.slab.at(box)
        slow = np.sin(x / 17 + p[0]) * np.sin(z / 15 + p[1]) + np.sin(x / 29 + z / 23 + p[2]) - (y + 45) / 40
        inside = fluid_hu + np.clip((slow - np.float32(gas_above)) * 8, 0, 1) * np.float32(GAS_HU - fluid_hu)
        return wall_hu + np.clip((-distance - wall_mm) / np.float32(0.8), 0, 1) * (inside - np.float32(wall_hu))

    return grey


def _stool(canvas: Canvas, bowel: Bowel, wall_hu: float) -> Grey:
    p = bowel.phases

    def grey(distance: FloatArray, box: Box) -> FloatArray:
        x, y, z = canvas.slab.at(box)
        mottled = np.sin(x / 2.9 + 2 * np.sin(z / 7 + p[3])) * np.sin(y / 3.3 + p[4] + np.sin(x / 5)) + np.sin(
            z / 3.1 + y / 6
        )
        inside = 35 - np.clip((mottled - np.float32(0.55)) * 1.2, 0, 1) * np.float32(620)
        return wall_hu + np.clip((-distance - 2) / np.float32(0.8), 0, 1) * (inside - np.float32(wall_hu))

    return grey
