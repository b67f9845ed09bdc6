"""The 13 organs of one patient as shapes in template millimetres (x left, y back, z head; origin in front of L2).

Places and sizes follow cross-sectional anatomy textbooks; volumes are checked against published ranges in the tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from unetr_nnunet.phantom.shapes import Blend, Ellipsoid, Plate, Shape, Tube

Point = tuple[float, float, float]

GALLBLADDER_ABSENT_SHARE = 0.1


@dataclass(frozen=True)
class Kidney:
    """A kidney with its pelvis and vessels."""

    outline: Shape
    sinus: Shape
    pelvis: Shape
    vein: Shape
    artery: Shape
    center: Point


@dataclass(frozen=True)
class Organs:
    """Shapes of the organs and of the vessels between them; ``gallbladder`` is None where it was taken out."""

    liver: Shape
    liver_veins: list[Shape]
    spleen: Shape
    stomach: Shape
    stomach_gas_share: float
    gallbladder: Shape | None
    right_kidney: Kidney
    left_kidney: Kidney
    pancreas: Shape
    duodenum: Shape
    right_adrenal: Shape
    left_adrenal: Shape
    esophagus: Shape
    aorta: Shape
    vena_cava: Shape
    portal_veins: list[Shape]
    arteries: list[Shape] = field(default_factory=list)
    veins: list[Shape] = field(default_factory=list)


class _Hand:
    """Draws points and sizes with a patient's own variation."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def size(self, spread: float = 0.06) -> float:
        return float(np.exp(np.clip(self.rng.normal(0, spread), -2 * spread, 2 * spread)))

    def points(self, *points: Point, wobble_mm: float = 2.0) -> np.ndarray:
        moves = np.clip(self.rng.normal(0, wobble_mm, (len(points), 3)), -2 * wobble_mm, 2 * wobble_mm)
        return np.array(points, float) + moves

    def tube(self, points: Sequence[Point], radii: list[float] | float, **options: float) -> Tube:
        wobble_mm = options.pop("wobble_mm", 1.0)
        return Tube(self.points(*points, wobble_mm=wobble_mm), np.asarray(radii) * self.size(), **options)

    def ellipsoid(
        self,
        center: Point,
        radii: Point,
        degrees: Point = (0, 0, 0),
        scale: float = 1.0,
    ) -> Ellipsoid:
        own = np.array([self.size(0.04) for _ in range(3)]) * scale
        return Ellipsoid(self.points(center)[0], np.array(radii) * own, degrees)


def spine_y_mm(z: np.ndarray) -> np.ndarray:
    """Return the middle of the vertebral bodies: lumbar lordosis, thoracic and sacral curve."""
    return 46 + 12 * ((z + 30) / 160) ** 2


def draws_gallbladder(rng: np.random.Generator) -> bool:
    """Draw whether the patient still has a gallbladder."""
    return bool(rng.random() >= GALLBLADDER_ABSENT_SHARE)


def draw_organs(rng: np.random.Generator) -> Organs:
    """Draw one patient. The first draw decides about the gallbladder (see ``draws_gallbladder``)."""
    has_gallbladder = draws_gallbladder(rng)
    hand = _Hand(rng)
    liver_scale = hand.size(0.05)
    return Organs(
        liver=_liver(hand, liver_scale),
        liver_veins=_liver_veins(hand),
        spleen=hand.ellipsoid((100, 32, 68), (32, 51, 56), (8, 12, 14), hand.size(0.08)),
        stomach=_stomach(hand),
        stomach_gas_share=float(rng.uniform(0.1, 0.5)),
        gallbladder=_gallbladder(hand) if has_gallbladder else None,
        right_kidney=_kidney(hand, -1, (-61, 39, -13)),
        left_kidney=_kidney(hand, 1, (61, 38, 1)),
        pancreas=_pancreas(hand),
        duodenum=_duodenum(hand),
        right_adrenal=_adrenal(hand, (-33, 29, 51), (7, 11, 0), (3, 10, -3)),
        left_adrenal=_adrenal(hand, (33, 21, 49), (-6, 9, 0), (9, 8, -2)),
        esophagus=hand.tube(
            [(2, 34, 185), (4, 29, 150), (9, 20, 122), (20, 11, 105), (37, 6, 96), (46, 4, 92)], [8, 8, 8.5, 9, 9, 9]
        ),
        aorta=hand.tube(
            [(22, 36, 185), (15, 30, 130), (10, 20, 60), (7, 17, 0), (5, 17, -50), (2, 18, -92)],
            [12.5, 12, 11, 10, 9.5, 9],
        ),
        vena_cava=hand.tube(
            [(-20, -6, 127), (-23, 1, 106), (-25, 8, 70), (-23, 13, 30), (-21, 17, -20), (-17, 20, -92)],
            [12.5, 12.5, 11.5, 11.5, 10.5, 10],
            flatten_y=1.15,
        ),
        portal_veins=_portal_veins(hand),
        arteries=_arteries(hand),
        veins=_veins(hand),
    )


def _liver(hand: _Hand, scale: float) -> Shape:
    parts = [
        hand.ellipsoid((-72, 2, 54), (72, 82, 84), scale=scale),
        hand.ellipsoid((-86, 4, 0), (38, 50, 46), (0, 8, 0), scale),
        hand.ellipsoid((-4, -46, 82), (80, 40, 36), (0, -6, 8), scale),
        hand.ellipsoid((-22, -2, 72), (20, 20, 28)),
    ]
    hollows = [hand.ellipsoid((0, -8, -4), (46, 58, 42)), hand.ellipsoid((-10, 50, 45), (30, 34, 70))]
    return Blend(parts, hollows, blend_mm=14)


def _liver_veins(hand: _Hand) -> list[Shape]:
    top = (-23, 2, 108)
    return [
        hand.tube([top, (-60, 10, 94), (-98, 16, 66)], [4.5, 3.2, 1.5], wobble_mm=3),
        hand.tube([top, (-42, -26, 92), (-58, -52, 66)], [4.5, 3.2, 1.5], wobble_mm=3),
        hand.tube([top, (-12, -24, 98), (10, -50, 92)], [4, 2.8, 1.4], wobble_mm=2),
        hand.tube([(-62, -6, 64), (-82, -16, 52), (-104, -22, 34)], [4.2, 3, 1.5], wobble_mm=3),
        hand.tube([(-62, -6, 64), (-84, 12, 70), (-108, 28, 78)], [4.2, 3, 1.5], wobble_mm=3),
        hand.tube([(-34, -30, 72), (-14, -46, 80), (22, -54, 84)], [4, 2.6, 1.4], wobble_mm=2),
    ]


def _stomach(hand: _Hand) -> Shape:
    fill = hand.size(0.09)
    points = [(58, 14, 112), (60, 0, 90), (64, -32, 60), (56, -57, 28), (30, -66, 6), (2, -60, 3), (-20, -46, 9)]
    radii = np.array([20, 31, 30, 27, 22, 17, 11]) * fill
    return Tube(hand.points(*points, wobble_mm=3), radii, flatten_y=1.05)


def _gallbladder(hand: _Hand) -> Shape:
    fill = hand.size(0.14)
    points = hand.points((-37, -24, 30), (-46, -38, 17), (-55, -54, 2), (-59, -64, -7), wobble_mm=2)
    return Tube(points, np.array([3.5, 10, 15, 13.5]) * fill, step_mm=5)


def _kidney(hand: _Hand, side: int, center: Point) -> Kidney:
    moved = hand.points(center, wobble_mm=4)[0]
    x, y, z = (float(v) for v in moved)
    scale = hand.size(0.05)
    body = hand.ellipsoid((x, y, z), (31, 27, 54.5), (-8, side * 14, side * 28), scale)
    hilum = Ellipsoid((x - side * 27, y - 13, z), (17, 11, 17))
    sinus = Ellipsoid((x - side * 12, y - 6, z), (15, 8, 25), (-8, side * 14, side * 28))
    pelvis = Tube([(x - side * 8, y - 4, z + 2), (x - side * 24, y - 8, z - 6), (x - side * 27, y - 4, z - 40),
                   (x - side * 30, y + 2, z - 90), (side * 42, 30, -170)], [5, 5, 2.2, 2, 2])  # fmt: skip
    hub = (-20.0, 15.0, z + 4) if side < 0 else (-12.0, 4.0, z + 3)
    over = (-34.0, 20.0, z + 3) if side < 0 else (12.0, 1.5, z + 3)
    vein = Tube([(x - side * 14, y - 8, z + 1), (x - side * 30, y - 15, z + 2), over, hub], [3.5, 4.5, 4.5, 4.5])
    artery = Tube([(x - side * 14, y - 5, z + 3), (x - side * 32, y - 8, z + 6), (8, 18, z + 12)], [2.2, 2.8, 3])
    return Kidney(Blend([body], [hilum], blend_mm=6), sinus, pelvis, vein, artery, (x, y, z))


def _pancreas(hand: _Hand) -> Shape:
    points = [(-26, -8, -30), (-27, -17, -12), (-12, -27, 4), (8, -28, 13), (28, -20, 22), (51, -3, 32), (75, 12, 42)]
    radii = np.array([12, 16, 10.5, 11, 11.5, 11.5, 9]) * hand.size(0.08)
    return Tube(hand.points(*points, wobble_mm=1.5), radii, step_mm=6)


def _duodenum(hand: _Hand) -> Shape:
    points = [
        (-24, -44, 10),
        (-40, -30, 10),
        (-49, -12, -8),
        (-48, -6, -36),
        (-28, -3, -54),
        (5, -6, -54),
        (30, -14, -34),
    ]
    return hand.tube(points, [10, 13, 12, 12, 12, 10, 10])


def _adrenal(
    hand: _Hand,
    apex: Point,
    medial: Point,
    lateral: Point,
) -> Shape:
    """Two upright plates, the limbs, that run back from an apex; ``medial`` and ``lateral`` are half of each limb."""
    tip = hand.points(apex, wobble_mm=1.0)[0]
    thickness = 2.4 * hand.size(0.06)
    height = 13.0 * hand.size(0.08)
    plates: list[Shape] = [Plate(tip - (0, 4, 0), (0.5, 5, 0), (0, 1, height * 0.9), thickness * 1.05)]
    for span, share in ((medial, 1.0), (lateral, 0.85)):
        plates.append(Plate(tip + span, span, (0, 2, height * share), thickness))
    return Blend(plates, blend_mm=3)


def _portal_veins(hand: _Hand) -> list[Shape]:
    confluence = (-6, -13, 5)
    fork = (-42, -11, 57)
    return [
        hand.tube(
            [(84, 17, 55), (66, 15, 44), (46, 8, 32), (25, -7, 18), confluence], [4.4, 5, 5.2, 5.4, 6], wobble_mm=0.7
        ),
        hand.tube([confluence, (-16, -14, 22), (-30, -13, 42), fork], [7, 7.8, 7.8, 7.2], wobble_mm=0.7),
        hand.tube([fork, (-52, -8, 62), (-64, -6, 65)], [6.8, 6.2, 5.5], wobble_mm=0.5),
        hand.tube([fork, (-38, -21, 65), (-33, -31, 73)], [6.2, 5.6, 5], wobble_mm=0.5),
    ]


def _arteries(hand: _Hand) -> list[Shape]:
    return [
        hand.tube([(8, 14, 18), (6, 0, 8), (4, -10, -12), (0, -17, -50), (-8, -24, -90)], [4, 4, 3.8, 3.2, 2]),
        hand.tube([(8, 14, 34), (6, 0, 38), (-12, -14, 40), (-34, -20, 52)], [3.5, 3.5, 2.8, 2]),
        hand.tube([(6, 0, 38), (30, -10, 38), (60, 2, 46), (84, 14, 60)], [3, 2.6, 2.4, 2]),
        hand.tube(
            [(2, 18, -92), (22, 22, -118), (44, 22, -150), (62, -14, -195), (72, -48, -235), (74, -52, -330)], 5.2
        ),
        hand.tube(
            [(2, 18, -92), (-20, 22, -118), (-44, 22, -150), (-62, -14, -195), (-72, -48, -235), (-74, -52, -330)], 5.2
        ),
    ]


def _veins(hand: _Hand) -> list[Shape]:
    return [
        hand.tube([(-6, -13, 5), (-9, -17, -15), (-9, -22, -50), (-14, -28, -90)], [6, 5.5, 5, 3]),
        hand.tube(
            [(-17, 20, -92), (14, 30, -122), (40, 34, -152), (56, -4, -195), (62, -42, -235), (64, -46, -330)], 6
        ),
        hand.tube(
            [(-17, 20, -92), (-24, 28, -122), (-44, 34, -152), (-56, -4, -195), (-62, -42, -235), (-64, -46, -330)], 6
        ),
    ]
