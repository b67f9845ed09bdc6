"""The 13 abdominal organs of BTCV: the one source of truth for ids, names, colours and codes.

Ids and order are those of the data set ("Multi-Atlas Labeling Beyond the Cranial Vault", Synapse syn3193805).
Colours keep paired organs apart in lightness as well as in hue, so that they stay distinct for colour-blind readers.
Codes are SNOMED CT concepts as DICOM lists them (PS3.16).
"""

import colorsys
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

BACKGROUND = 0


@dataclass(frozen=True)
class Organ:
    """One organ of the label map.

    Attributes:
        id: value in the label map, 1..13.
        name: nnU-Net label name (also in ``dataset.json``).
        short_name: at most four letters, for table headers.
        colour: display colour as (red, green, blue), 0..255.
        totalsegmentator_name: class name of the same organ in TotalSegmentator v2.
        snomed_code: SNOMED CT concept of the organ, the same for both of a pair; of portal and splenic veins, for
            which there is no common one, that of the portal vein.
        snomed_meaning: the concept's name.
        laterality: "right" or "left" for one of a pair, else None.
        other_names: what AMOS22, FLARE22 and WORD call it, where that is another word than ``name``; "arota" is the
            spelling of AMOS22's dataset.json.
    """

    id: int
    name: str
    short_name: str
    colour: tuple[int, int, int]
    totalsegmentator_name: str
    snomed_code: str
    snomed_meaning: str
    laterality: str | None = None
    other_names: tuple[str, ...] = ()


ORGANS: tuple[Organ, ...] = (
    Organ(1, "spleen", "Spl", (86, 180, 233), "spleen", "78961009", "Spleen"),
    Organ(2, "right_kidney", "RKid", (0, 158, 115), "kidney_right", "64033007", "Kidney", "right"),
    Organ(3, "left_kidney", "LKid", (144, 214, 144), "kidney_left", "64033007", "Kidney", "left"),
    Organ(4, "gallbladder", "Gall", (154, 205, 50), "gallbladder", "28231008", "Gallbladder", None, ("gall_bladder",)),
    Organ(5, "esophagus", "Eso", (255, 228, 181), "esophagus", "32849002", "Esophagus"),
    Organ(6, "liver", "Liv", (170, 75, 45), "liver", "10200004", "Liver"),
    Organ(7, "stomach", "Sto", (230, 159, 0), "stomach", "69695003", "Stomach"),
    Organ(8, "aorta", "Aor", (220, 20, 60), "aorta", "15825003", "Aorta", None, ("arota",)),
    Organ(
        9,
        "inferior_vena_cava",
        "IVC",
        (0, 90, 200),
        "inferior_vena_cava",
        "64131007",
        "Inferior vena cava",
        None,
        ("postcava",),
    ),
    Organ(
        10,
        "portal_and_splenic_veins",
        "PSV",
        (120, 100, 220),
        "portal_vein_and_splenic_vein",
        "32764006",
        "Portal vein",
    ),
    Organ(11, "pancreas", "Pan", (240, 228, 66), "pancreas", "15776009", "Pancreas"),
    Organ(
        12, "right_adrenal_gland", "RAd", (204, 121, 167), "adrenal_gland_right", "23451007", "Adrenal gland", "right"
    ),
    Organ(13, "left_adrenal_gland", "LAd", (255, 190, 225), "adrenal_gland_left", "23451007", "Adrenal gland", "left"),
)

ORGAN_NAMES: dict[int, str] = {organ.id: organ.name for organ in ORGANS}

SYNAPSE_8: tuple[int, ...] = (8, 4, 3, 2, 6, 11, 1, 7)
"""Ids of the eight organs of the TransUNet ("Synapse") protocol, in the column order of its tables."""

CHALLENGE_12: tuple[tuple[int, ...], ...] = (*((organ.id,) for organ in ORGANS[:11]), (12, 13))
"""The twelve columns of the BTCV challenge: both adrenal glands count as one structure."""

_LEFT_SIDE = ("spleen", "stomach", "left_kidney", "left_adrenal_gland")
_RIGHT_SIDE = ("liver", "gallbladder", "right_kidney", "right_adrenal_gland")

ORGAN_ORDER: dict[str, tuple[tuple[str, str], ...]] = {
    "left": (*product(_LEFT_SIDE, _RIGHT_SIDE), ("aorta", "inferior_vena_cava")),
    "back": (
        *product(("left_kidney", "right_kidney"), ("liver", "stomach", "pancreas", "gallbladder")),
        *product(("aorta", "inferior_vena_cava"), ("pancreas", "portal_and_splenic_veins", "stomach")),
        ("spleen", "stomach"),
    ),
    "head": (
        *product(("esophagus",), ("left_kidney", "right_kidney", "pancreas")),
        *product(("spleen", "left_adrenal_gland"), ("left_kidney",)),
        *product(("liver", "right_adrenal_gland"), ("right_kidney",)),
    ),
}
"""Pairs by the end of the patient to which the first one's centre of gravity lies, in all but rare anatomies."""

RUNS_ON: frozenset[str] = frozenset({"esophagus", "aorta", "inferior_vena_cava"})
"""Organs that leave the abdomen, so that every CT of it cuts them off."""


def find_organ(name: str) -> Organ | None:
    """Return the organ that a label is named after, here or in a data set that we convert; None for any other label.

    Case, and what separates the words, make no difference.
    """
    return _BY_NAME.get(re.sub(r"[\s_-]+", "_", name.strip().lower()))


_BY_NAME = {name: organ for organ in ORGANS for name in (organ.name, organ.totalsegmentator_name, *organ.other_names)}


def label_colours(labels: Mapping[str, int]) -> dict[int, tuple[int, int, int]]:
    """Return a display colour (red, green, blue), 0..255, for each label.

    Organs have their own. Any other label's colour follows from its number alone; no two of the first thousand are
    the same, nor one of them an organ's.

    Args:
        labels: integer of each label by name.
    """
    return {label: organ.colour if (organ := find_organ(name)) else _colour(label) for name, label in labels.items()}


def _colour(number: int) -> tuple[int, int, int]:
    """Return a colour far from those of the numbers before: each hue is a golden angle from the last."""
    golden = (5**0.5 - 1) / 2
    saturation, brightness = (1.0, 0.7, 0.45)[number % 3], (1.0, 0.75)[number // 3 % 2]
    red, green, blue = colorsys.hsv_to_rgb(number * golden % 1, saturation, brightness)
    return round(red * 255), round(green * 255), round(blue * 255)
