"""The 13 abdominal organs of BTCV: the one source of truth for ids, names and colours.

Ids and order are those of the data set ("Multi-Atlas Labeling Beyond the Cranial Vault", Synapse syn3193805).
Colours keep paired organs apart in lightness as well as in hue, so that they stay distinct for colour-blind readers.
"""

from dataclasses import dataclass

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
    """

    id: int
    name: str
    short_name: str
    colour: tuple[int, int, int]
    totalsegmentator_name: str


ORGANS: tuple[Organ, ...] = (
    Organ(1, "spleen", "Spl", (86, 180, 233), "spleen"),
    Organ(2, "right_kidney", "RKid", (0, 158, 115), "kidney_right"),
    Organ(3, "left_kidney", "LKid", (144, 214, 144), "kidney_left"),
    Organ(4, "gallbladder", "Gall", (154, 205, 50), "gallbladder"),
    Organ(5, "esophagus", "Eso", (255, 228, 181), "esophagus"),
    Organ(6, "liver", "Liv", (170, 75, 45), "liver"),
    Organ(7, "stomach", "Sto", (230, 159, 0), "stomach"),
    Organ(8, "aorta", "Aor", (220, 20, 60), "aorta"),
    Organ(9, "inferior_vena_cava", "IVC", (0, 90, 200), "inferior_vena_cava"),
    Organ(10, "portal_and_splenic_veins", "PSV", (120, 100, 220), "portal_vein_and_splenic_vein"),
    Organ(11, "pancreas", "Pan", (240, 228, 66), "pancreas"),
    Organ(12, "right_adrenal_gland", "RAd", (204, 121, 167), "adrenal_gland_right"),
    Organ(13, "left_adrenal_gland", "LAd", (255, 190, 225), "adrenal_gland_left"),
)

ORGAN_NAMES: dict[int, str] = {organ.id: organ.name for organ in ORGANS}

SYNAPSE_8: tuple[int, ...] = (8, 4, 3, 2, 6, 11, 1, 7)
"""Ids of the eight organs of the TransUNet ("Synapse") protocol, in the column order of its tables."""

CHALLENGE_12: tuple[tuple[int, ...], ...] = (*((organ.id,) for organ in ORGANS[:11]), (12, 13))
"""The twelve columns of the BTCV challenge: both adrenal glands count as one structure."""
