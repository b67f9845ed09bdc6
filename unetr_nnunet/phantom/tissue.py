"""Hounsfield units of each tissue in three contrast phases, from textbook ranges of abdominal CT."""

from dataclasses import dataclass

import numpy as np

PHASES = ("unenhanced", "arterial", "portal")
PHASE_SHARES = (0.12, 0.13, 0.75)
"""BTCV is portal venous; a few other phases keep a network from leaning on the grey value alone."""

AIR_HU, FAT_HU = -1000.0, -102.0

PHASE_HU: dict[str, tuple[float, float, float]] = {
    "aorta": (42, 290, 155),
    "vena_cava": (40, 75, 135),
    "portal_vein": (42, 125, 165),
    "heart": (42, 220, 140),
    "liver": (56, 68, 108),
    "liver_veins": (42, 80, 160),
    "spleen": (48, 118, 124),
    "renal_cortex": (34, 175, 180),
    "renal_medulla": (32, 70, 150),
    "pancreas": (40, 105, 92),
    "adrenal": (24, 72, 68),
    "stomach_wall": (42, 80, 86),
    "bowel_wall": (38, 82, 88),
    "esophagus": (38, 58, 62),
    "muscle": (52, 58, 62),
}
FIXED_HU: dict[str, float] = {
    "skin": 20,
    "lung": -860,
    "bile": 9,
    "urine": 6,
    "disc": 85,
    "marrow": 140,
    "cortical_bone": 620,
    "canal": 28,
    "fat": FAT_HU,
}


@dataclass(frozen=True)
class Tissues:
    """Grey values of one patient: ``hu["liver"]`` and so on, for the phase named in ``phase``."""

    phase: str
    hu: dict[str, float]


def draw_tissues(rng: np.random.Generator) -> Tissues:
    """Draw the contrast phase of one case and how strongly each tissue takes it up."""
    phase = int(rng.choice(len(PHASES), p=PHASE_SHARES))
    strength = rng.uniform(0.88, 1.12)
    hu = {
        name: values[0] + (values[phase] - values[0]) * strength * rng.uniform(0.94, 1.06) + rng.normal(0, 2)
        for name, values in PHASE_HU.items()
    }
    hu |= {name: value + rng.normal(0, 0.02 * abs(value)) for name, value in FIXED_HU.items()}
    hu["oral_contrast"] = float(rng.choice([14, 30, 180], p=[0.5, 0.3, 0.2]))
    return Tissues(PHASES[phase], {name: float(value) for name, value in hu.items()})
