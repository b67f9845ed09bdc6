"""One synthetic patient: draws anatomy, contrast, posture and scan, then paints slab by slab.

Everything follows from (seed, case number, size); the anatomy is the same for all sizes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetr_nnunet.phantom.acquisition import (
    Z_SAMPLES,
    Acquisition,
    Posture,
    draw_acquisition,
    draw_noise,
)
from unetr_nnunet.phantom.anatomy import Kidney, Organs, draw_organs, draws_gallbladder
from unetr_nnunet.phantom.body import Build, Limits, draw_build, paint_body, paint_table
from unetr_nnunet.phantom.bowel import GAS_HU, Bowel, draw_bowel, paint_bowel
from unetr_nnunet.phantom.canvas import Canvas, Grey, in_layers
from unetr_nnunet.phantom.shapes import Box, FloatArray, Slab
from unetr_nnunet.phantom.tissue import FAT_HU, Tissues, draw_tissues

POINTS_PER_SLAB = 3_000_000
HU_RANGE = (-1024, 3071)


@dataclass(frozen=True)
class PhantomCase:
    """One finished case.

    Attributes:
        image_hu: int16 (Z, Y, X), as stored.
        labels: uint8 (Z, Y, X), BTCV ids.
        spacing_mm: (z, y, x).
        affine: NIfTI affine (4, 4), from stored x, y, z indices to RAS millimetres.
        orientation: "LPS" or "RAS": the directions in which stored x, y and z indices grow.
        phase: contrast phase.
    """

    image_hu: NDArray[np.int16]
    labels: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]
    orientation: str
    phase: str


@dataclass(frozen=True)
class _Patient:
    organs: Organs
    bowel: Bowel
    build: Build
    tissues: Tissues


def has_gallbladder(case_number: int, seed: int) -> bool:
    """Return whether the patient of a case has a gallbladder, without painting anything."""
    return draws_gallbladder(_streams(case_number, seed)[0])


def generate_case(case_number: int, size: str, seed: int) -> PhantomCase:
    """Make one case.

    Args:
        case_number: number in the file name; each number is another patient.
        size: "demo", "half" or "full".
        seed: of the data set.

    Raises:
        ValueError: unknown size, or a negative number or seed.
    """
    anatomy, posture_rng, contrast, scan, noise = _streams(case_number, seed)
    patient = _Patient(draw_organs(anatomy), draw_bowel(anatomy), draw_build(anatomy), draw_tissues(contrast))
    posture = Posture(posture_rng)
    acquisition = draw_acquisition(scan, size, patient.build.width_mm * float(posture.scale[0]))
    image_hu, labels = _paint(patient, posture, acquisition, noise)
    offset_mm = (float(scan.uniform(-15, 15)), float(scan.uniform(-40, 40)), float(scan.uniform(-900, 300)))
    if acquisition.orientation == "RAS":
        image_hu, labels = image_hu[:, ::-1, ::-1], labels[:, ::-1, ::-1]
    return PhantomCase(
        np.ascontiguousarray(image_hu),
        np.ascontiguousarray(labels),
        acquisition.spacing_mm,
        acquisition.affine_ras(offset_mm),
        acquisition.orientation,
        patient.tissues.phase,
    )


def _streams(case_number: int, seed: int) -> list[np.random.Generator]:
    if case_number < 0 or seed < 0:
        raise ValueError(f"case number and seed must not be negative, got {case_number} and {seed}")
    return [np.random.default_rng(child) for child in np.random.SeedSequence([seed, case_number]).spawn(5)]


def _paint(
    patient: _Patient, posture: Posture, acquisition: Acquisition, noise: np.random.Generator
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    depth, height, width = acquisition.shape
    image = np.empty(acquisition.shape, np.int16)
    labels = np.empty(acquisition.shape, np.uint8)
    z_mm, y_mm, x_mm = (acquisition.world_mm(axis) for axis in range(3))
    thick_mm, pixel_mm = acquisition.spacing_mm[:2]
    inner = ((np.arange(Z_SAMPLES) + 0.5) / Z_SAMPLES - 0.5) * thick_mm
    slices = max(1, POINTS_PER_SLAB // (height * width * Z_SAMPLES))
    for start in range(0, depth, slices):
        part = slice(start, min(start + slices, depth))
        samples_mm = (z_mm[part, None] + inner).ravel().astype(np.float32)
        slab = Slab(posture.template_mm(samples_mm, y_mm, x_mm), pixel_mm, Z_SAMPLES)
        canvas = Canvas(slab, y_mm)
        paint_table(canvas, y_mm, x_mm, float(posture.scale[1]) * (118 + 0.8 * patient.build.fat_mm))
        limits = paint_body(canvas, patient.build, patient.tissues)
        paint_bowel(canvas, patient.bowel, limits, patient.tissues)
        _paint_organs(canvas, patient, limits)
        hu = canvas.image_hu
        strength = np.where(hu > -900, acquisition.noise_hu, 0.6 * acquisition.noise_hu).astype(np.float32)
        hu += strength * draw_noise(noise, hu.shape, pixel_mm)
        image[part] = np.clip(np.rint(hu), *HU_RANGE)
        labels[part] = canvas.labels
    return image, labels


def _paint_organs(canvas: Canvas, patient: _Patient, limits: Limits) -> None:
    """Paint in this order: what comes later pushes back what came earlier."""
    organs, hu, abdomen = patient.organs, patient.tissues.hu, limits.abdomen
    canvas.paint(organs.liver, hu["liver"], 6, abdomen, fat_margin_mm=0.8)
    for vein in organs.liver_veins:
        canvas.paint(vein, hu["liver_veins"], None, abdomen)
    canvas.paint(organs.spleen, hu["spleen"], 1, abdomen, fat_margin_mm=1.5)
    canvas.paint(organs.stomach, _stomach_content(canvas, patient), 7, abdomen, fat_margin_mm=1.2)
    if organs.gallbladder is not None:
        canvas.paint(organs.gallbladder, in_layers((0, 45), (1.2, hu["bile"])), 4, abdomen)
    _paint_kidney(canvas, organs.right_kidney, 2, hu)
    _paint_kidney(canvas, organs.left_kidney, 3, hu)
    canvas.paint(organs.duodenum, in_layers((0, hu["bowel_wall"]), (2.5, 18)), 0, abdomen)
    canvas.paint(organs.pancreas, _lobules(canvas, hu["pancreas"]), 11, abdomen, fat_margin_mm=1.0)
    for artery in (*organs.arteries, organs.right_kidney.artery, organs.left_kidney.artery):
        canvas.paint(artery, hu["aorta"], 0)
    for vein in (*organs.veins, organs.right_kidney.vein, organs.left_kidney.vein):
        canvas.paint(vein, hu["vena_cava"], 0)
    canvas.paint(organs.esophagus, in_layers((0, hu["esophagus"]), (5.5, hu["esophagus"] - 45)), 5)
    canvas.paint(organs.vena_cava, hu["vena_cava"], 9)
    for vein in organs.portal_veins:
        canvas.paint(vein, hu["portal_vein"], 10)
    canvas.paint(organs.aorta, hu["aorta"], 8, fat_margin_mm=0.8)
    canvas.paint(organs.right_adrenal, hu["adrenal"], 12, fat_margin_mm=1.5)
    canvas.paint(organs.left_adrenal, hu["adrenal"], 13, fat_margin_mm=1.5)


def _stomach_content(canvas: Canvas, patient: _Patient) -> Grey:
    """Return wall, fluid, and gas above a level that is horizontal in the room (the patient lies on the back)."""
    hu = patient.tissues.hu
    bounds_mm = patient.organs.stomach.bounds_mm[:, 1]
    level_mm = bounds_mm[0] + patient.organs.stomach_gas_share * (bounds_mm[1] - bounds_mm[0])

    def grey(distance: FloatArray, box: Box) -> FloatArray:
        x, y, z = canvas.slab.at(box)
        above = np.float32(level_mm) - canvas.world_y_mm[box[1], None]
        lumpy = 18 * np.sin(x / 6 + np.sin(z / 8)) * np.sin(y / 5 + np.sin(x / 9))
        inside = hu["oral_contrast"] + lumpy
        inside += np.clip(above / np.float32(canvas.slab.pixel_mm) + 0.5, 0, 1) * (np.float32(GAS_HU) - inside)
        folds_mm = 4 + 1.2 * np.sin(x / 3.5 + z / 4) * np.sin(y / 4)
        return hu["stomach_wall"] + np.clip((-distance - folds_mm) / 0.8, 0, 1) * (inside - hu["stomach_wall"])

    return grey


def _lobules(canvas: Canvas, mean_hu: float) -> Grey:
    """Return pancreas with clefts of fat."""

    def grey(distance: FloatArray, box: Box) -> FloatArray:
        x, y, z = canvas.slab.at(box)
        cleft = np.sin(x / 2.3 + np.sin(y / 4)) * np.sin(y / 2.6 + np.sin(z / 5)) * np.sin(z / 3 + x / 7)
        depth = np.clip(1 + distance / 7, 0.15, 1)
        return mean_hu - np.clip(cleft * 2 - 0.7, 0, 1) * depth * np.float32(95)

    return grey


def _paint_kidney(canvas: Canvas, kidney: Kidney, label: int, hu: dict[str, float]) -> None:
    x0, y0, z0 = kidney.center
    contrast = hu["renal_medulla"] - hu["renal_cortex"]

    def grey(distance: FloatArray, box: Box) -> FloatArray:
        x, y, z = canvas.slab.at(box)
        around = np.arctan2(y - y0, x - x0)
        pyramids = np.clip(0.5 + 1.4 * np.cos(4 * around) * np.cos((z - z0) / 5.5), 0, 1)
        return hu["renal_cortex"] + np.clip((-distance - 6) / 1.5, 0, 1) * pyramids * np.float32(contrast)

    canvas.paint(kidney.outline, grey, label, fat_margin_mm=5)
    canvas.paint(kidney.sinus, FAT_HU + 15, None)
    canvas.paint(kidney.pelvis, hu["urine"], None)
