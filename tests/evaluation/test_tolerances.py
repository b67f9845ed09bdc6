"""Tolerances: FLARE's published table, and words where there is none."""

import pytest

from unetr_nnunet.evaluation.tolerances import DEFAULT_TOLERANCE, TOLERANCES, tolerances_mm
from unetr_nnunet.organs import ORGANS

NAMES = [organ.name for organ in ORGANS]


def test_nnunet_is_one_millimetre_for_any_name() -> None:
    assert DEFAULT_TOLERANCE == "nnunet"
    assert tolerances_mm("nnunet", ["liver", "femur"]) == {"liver": 1, "femur": 1}


def test_flare_is_the_table_of_its_script() -> None:
    # label_tolerance of FLARE22_DSC_NSD_Eval.py, read in the challenge's repository; our names of its abbreviations
    script = {"Liver": 5, "RK": 3, "Spleen": 3, "Pancreas": 5, "Aorta": 2, "IVC": 2, "RAG": 2, "LAG": 2}
    script |= {"Gallbladder": 2, "Esophagus": 3, "Stomach": 5, "Duodenum": 7, "LK": 3}
    short = {"right_kidney": "RK", "left_kidney": "LK", "inferior_vena_cava": "IVC"}
    short |= {"right_adrenal_gland": "RAG", "left_adrenal_gland": "LAG"}
    columns = [*(name for name in NAMES if name != "portal_and_splenic_veins"), "duodenum"]
    ours = tolerances_mm("flare", columns)
    assert {short.get(name, name.capitalize()): value for name, value in ours.items()} == script


def test_flare_knows_every_btcv_column() -> None:
    assert set(tolerances_mm("flare", [*NAMES, "adrenal_glands"])) == {*NAMES, "adrenal_glands"}
    assert tolerances_mm("flare", ["kidney_left", "Duodenum"]) == {"kidney_left": 3, "Duodenum": 7}


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("flare", ["liver", "bladder", "femur"], "no tolerance for bladder, femur; use the tolerance nnunet"),
        ("2mm", ["liver"], "no tolerances named '2mm'; take one of nnunet, flare"),
    ],
)
def test_says_what_there_is_not(name: str, columns: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tolerances_mm(name, columns)
    assert name == "2mm" or name in TOLERANCES
