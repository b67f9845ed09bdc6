import math
from dataclasses import replace

import pytest

from tests.evaluation import made_up
from tests.evaluation.made_up import score
from unetr_nnunet.evaluation.figures import Evaluation
from unetr_nnunet.evaluation.protocols import ProtocolDescription
from unetr_nnunet.evaluation.tables import format_protocols, format_table

NAN = math.nan


@pytest.fixture
def evaluation() -> Evaluation:
    surface = {"hd95_mm": 3.25, "assd_mm": 0.5, "nsd": 0.75}
    volume = {"true_volume_ml": 4, "volume_error_ml": -2, "components": 3, "true_components": 1}
    liver = score(2 / 3, 4, 2, **surface, **volume)
    aorta = score(NAN, 0, 0, **dict.fromkeys(surface, NAN), **dict.fromkeys(volume, 0))
    found = made_up.evaluation({'a,"1"': {"liver": liver, "aorta": aorta}}, "liver", "aorta")
    protocol = ProtocolDescription("nnunet", "as stated", "a source")
    return replace(found, protocol=protocol, tolerance="flare", tolerances_mm={"liver": 2.0, "aorta": 1.0})


def test_table_shows_figures_with_their_numbers_of_cases(evaluation: Evaluation) -> None:
    lines = format_table(evaluation).splitlines()
    words = [line.split() for line in lines]
    assert ["liver", "0.667", "0.667", "0.667", "1", "0", "0", "0", 'a,"1"'] in words
    assert ["aorta", "-", "-", "-", "0", "0", "0", "1", "-"] in words
    assert ["mean", "of", "1", "of", "2", "organs", "0.667"] in words
    assert lines[-1] == "Protocol 'nnunet': as stated."
    assert "tolerance 'flare', 1 to 2 mm" in lines[-2]
    assert "1 case scored" in lines[-3]


def test_surface_and_volume_table(evaluation: Evaluation) -> None:
    words = [line.split() for line in format_table(evaluation).splitlines()]
    #        organ   NSD      n    HD95    ASSD    n    ml     error   parts  true   swapped
    assert ["liver", "0.750", "1", "3.25", "0.50", "1", "4.0", "-2.0", "3.0", "1.0", "-", "0"] in words
    assert ["aorta", "-", "0", "-", "-", "0", "0.0", "0.0", "0.0", "0.0", "-", "0"] in words
    assert ["mean", "of", "n", "organs", "0.750", "1", "3.25", "0.50", "1"] in words


def test_protocols_side_by_side(evaluation: Evaluation) -> None:
    other = replace(
        made_up.evaluation({"a": {"glands": score(0.25)}}, "glands"),
        protocol=ProtocolDescription("other", "differs", ""),
    )
    rows = [[cell.strip() for cell in line.split("|")] for line in format_protocols([evaluation, other]).splitlines()]
    assert rows[0] == ["", "organ", "nnunet", "other", ""]
    assert {cell.strip(":-") for cell in rows[1]} == {""}
    assert rows[2:6] == [
        ["", "liver", "0.667 (1)", "", ""],
        ["", "aorta", "- (0)", "", ""],
        ["", "glands", "", "0.250 (1)", ""],
        ["", "mean", "0.667 (1 columns)", "0.250 (1 columns)", ""],
    ]
    assert rows[-2:] == [["- `nnunet`: as stated."], ["- `other`: differs."]]
