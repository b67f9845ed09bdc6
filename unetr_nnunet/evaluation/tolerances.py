"""How far a surface may be off and still agree, in normalised surface Dice (NSD).

``nnunet``: 1 mm for every structure, a common choice with nnU-Net; nnU-Net itself names none (version 1 takes a
threshold in millimetres in ``nnunet/evaluation/surface_dice.py``, without a default, and counts voxels, not areas).
``flare``: the FLARE 2022 challenge's table, larger for organs whose border is hard to see (github.com/JunMa11/FLARE,
``FLARE22/Evaluation/FLARE22_DSC_NSD_Eval.py``). That script also scores aorta, vena cava and esophagus only on slices
where truth holds them; here, as everywhere else, all slices count.
"""

from collections.abc import Iterable, Mapping

from unetr_nnunet.organs import find_organ

NNUNET_MM = 1.0
FLARE_MM: Mapping[str, float] = {
    "liver": 5.0,
    "kidney": 3.0,  # either
    "spleen": 3.0,
    "pancreas": 5.0,
    "aorta": 2.0,
    "inferior_vena_cava": 2.0,
    "adrenal_gland": 2.0,  # either
    "adrenal_glands": 2.0,  # both in one column
    "gallbladder": 2.0,
    "esophagus": 3.0,
    "stomach": 5.0,
    "duodenum": 7.0,
    "portal_and_splenic_veins": 2.0,  # not in FLARE; as the vena cava
}

TOLERANCES: tuple[str, ...] = ("nnunet", "flare")
DEFAULT_TOLERANCE = "nnunet"


def tolerances_mm(name: str, columns: Iterable[str]) -> dict[str, float]:
    """Return the tolerance of each column in millimetres.

    Args:
        name: one of ``TOLERANCES``.
        columns: names of organs, here or in TotalSegmentator.

    Raises:
        ValueError: there are no such tolerances, or FLARE has none for a column.
    """
    if name == "nnunet":
        return dict.fromkeys(columns, NNUNET_MM)
    if name != "flare":
        raise ValueError(f"there are no tolerances named {name!r}; take one of {', '.join(TOLERANCES)}")
    known = {column: _without_side(column) for column in columns}
    unknown = [column for column, organ in known.items() if organ not in FLARE_MM]
    if unknown:
        raise ValueError(f"FLARE has no tolerance for {', '.join(unknown)}; use the tolerance nnunet (1 mm for all)")
    return {column: FLARE_MM[organ] for column, organ in known.items()}


def _without_side(column: str) -> str:
    organ = find_organ(column)
    return organ.name.removeprefix(f"{organ.laterality}_") if organ else column.lower()
