"""The protocols against the tables and code they are taken from."""

import dataclasses
import math

import pytest

from unetr_nnunet.evaluation.absent_organs import RULES
from unetr_nnunet.evaluation.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from unetr_nnunet.nnunet.label_table import LabelTable
from unetr_nnunet.organs import ORGAN_NAMES

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
        assert description["name"] == protocol.name
        assert protocol.scope in description["statement"]
        assert protocol.rule.statement() in description["statement"]
        assert description["source"]


def test_another_rule_is_another_name() -> None:
    changed = DEFAULT_PROTOCOL.with_rule(RULES["unetr_plus_plus"])
    assert changed.name == "nnunet+unetr_plus_plus"
    assert "1 in both truth and prediction" in changed.statement()
    assert DEFAULT_PROTOCOL.with_rule(RULES["nnunet"]) is DEFAULT_PROTOCOL
