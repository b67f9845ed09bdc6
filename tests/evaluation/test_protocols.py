"""The protocols against the tables and code they are taken from."""

import dataclasses
import math

import pytest

from unetr_nnunet.evaluation.protocols import (
    DEFAULT_PROTOCOL,
    DEFAULT_TOLERANCE,
    PROTOCOLS,
    RULES,
    TOLERANCES,
    tolerances_mm,
)
from unetr_nnunet.nnunet.label_table import LabelTable
from unetr_nnunet.organs import ORGAN_NAMES, ORGANS

BTCV = LabelTable({name: label for label, name in ORGAN_NAMES.items()}, None, "a test")


def test_columns_are_those_of_the_published_tables() -> None:
    columns = {name: protocol.columns_of(BTCV) for name, protocol in PROTOCOLS.items()}
    assert list(columns) == ["nnunet", "btcv-challenge", "synapse-8", "unetr"]
    assert list(columns["nnunet"].values()) == [(label,) for label in range(1, 14)]
    assert columns["unetr"] == columns["nnunet"]
    # UNETR paper, table 1: Spl RKid LKid Gall Eso Liv Sto Aor IVC Veins Pan AG
    assert list(columns["btcv-challenge"].values()) == [*((label,) for label in range(1, 12)), (12, 13)]
    assert list(columns["btcv-challenge"])[-1] == "adrenal_glands"
    # TransUNet paper, table 1
    expected = ["aorta", "gallbladder", "left_kidney", "right_kidney", "liver", "pancreas", "spleen", "stomach"]
    assert list(columns["synapse-8"]) == expected
    assert columns["synapse-8"]["left_kidney"] == (3,)


def test_rules_and_grids() -> None:
    absent = {name: protocol.rule.both_absent for name, protocol in PROTOCOLS.items()}
    assert math.isnan(absent.pop("nnunet"))
    assert math.isnan(absent.pop("btcv-challenge"))
    assert absent == {"synapse-8": 0, "unetr": 0}
    assert PROTOCOLS["synapse-8"].rule.truth_absent == 1
    assert {name: protocol.spacing_mm for name, protocol in PROTOCOLS.items() if protocol.spacing_mm} == {
        "unetr": (1.5, 1.5, 2.0)
    }


def test_labels_are_found_by_name_not_by_number() -> None:
    shuffled = {"Kidney right": 7, "kidney_left": 1, "liver": 5, "aorta": 4, "gallbladder": 3, "pancreas": 2}
    table = LabelTable({**shuffled, "Spleen": 6, "stomach": 8, "duodenum": 9}, None, "a test")
    columns = PROTOCOLS["synapse-8"].columns_of(table)
    assert columns["left_kidney"] == (1,)
    assert columns["right_kidney"] == (7,)
    assert "duodenum" not in columns
    assert PROTOCOLS["nnunet"].columns_of(table)["duodenum"] == (9,)


def test_an_organ_that_the_labels_lack_is_named() -> None:
    table = dataclasses.replace(BTCV, organs={"liver": 1, "adrenal_gland_left": 2}, source="amos/dataset.json")
    with pytest.raises(ValueError, match=r"'btcv-challenge' scores .*right_adrenal_gland, which amos/") as refusal:
        PROTOCOLS["btcv-challenge"].columns_of(table)
    assert "left_adrenal_gland" not in str(refusal.value)


def test_every_description_tells_scope_rule_and_source() -> None:
    for protocol in PROTOCOLS.values():
        description = protocol.description()
        assert description.name == protocol.name
        assert protocol.scope in description.statement
        assert protocol.rule.statement() in description.statement
        assert description.source


def test_another_rule_is_another_name() -> None:
    changed = DEFAULT_PROTOCOL.with_rule(RULES["unetr_plus_plus"])
    assert changed.name == "nnunet+unetr_plus_plus"
    assert "1 in both truth and prediction" in changed.statement()
    assert DEFAULT_PROTOCOL.with_rule(RULES["nnunet"]) is DEFAULT_PROTOCOL


def test_the_default_rule_is_nnunets_and_says_so() -> None:
    assert DEFAULT_PROTOCOL.rule.name == "nnunet"
    assert (
        "no value in both truth and prediction, 0 in truth only, 0 in prediction only"
        in DEFAULT_PROTOCOL.rule.statement()
    )


def test_every_rule_reads_differently() -> None:
    assert len({rule.statement() for rule in RULES.values()}) == len(RULES)
    assert all(name == rule.name for name, rule in RULES.items())


# ---- tolerances: FLARE's published table ----

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
        ("2mm", ["liver"], "unknown tolerance '2mm'; choose one of nnunet, flare"),
    ],
)
def test_says_what_there_is_not(name: str, columns: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tolerances_mm(name, columns)
    assert name == "2mm" or name in TOLERANCES
