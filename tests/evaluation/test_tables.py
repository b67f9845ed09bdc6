import csv
import json
import math
from pathlib import Path

import pytest

from unetr_nnunet.evaluation.summary import summarise
from unetr_nnunet.evaluation.tables import format_protocols, format_table, write_csv, write_json


@pytest.fixture
def evaluation() -> dict[str, object]:
    liver = {"dice": 2 / 3, "hd95_mm": 3.25, "assd_mm": 0.5, "nsd": 0.75, "true_volume_ml": 4, "volume_error_ml": -2}
    aorta = dict.fromkeys(("dice", "hd95_mm", "assd_mm", "nsd"), math.nan) | {"true_volume_ml": 0, "volume_error_ml": 0}
    voxels = {"truth_voxels": 4, "prediction_voxels": 2}
    cases = {
        'a,"1"': {
            "liver": {**liver, **voxels, "components": 3, "true_components": 1},
            "aorta": {**aorta, **dict.fromkeys(voxels, 0), "components": 0, "true_components": 0},
        }
    }
    return {
        "label_source": "a test",
        "protocol": {"name": "nnunet", "statement": "as stated", "source": "a source"},
        "rule": {"name": "nnunet", "both_absent": math.nan, "statement": "as stated"},
        "tolerance": {"name": "flare", "mm": {"liver": 2.0, "aorta": 1.0}},
        "metrics": list(cases['a,"1"']["liver"]),
        **summarise(cases, ["liver", "aorta"]),
        "cases": cases,
    }


def test_csv_has_a_row_for_each_case_and_organ_and_a_column_for_each_metric(
    tmp_path: Path, evaluation: dict[str, object]
) -> None:
    write_csv(evaluation, tmp_path / "out" / "metrics.csv")
    with (tmp_path / "out" / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["case", "organ", *evaluation["metrics"]]  # type: ignore[misc]
    assert [(row["case"], row["organ"]) for row in rows] == [('a,"1"', "liver"), ('a,"1"', "aorta")]
    assert (rows[0]["dice"], rows[0]["hd95_mm"], rows[0]["truth_voxels"]) == (repr(2 / 3), "3.25", "4")
    assert (rows[1]["dice"], rows[1]["hd95_mm"], rows[1]["truth_voxels"]) == ("", "", "0")


def test_json_is_strict_and_loses_nothing(tmp_path: Path, evaluation: dict[str, object]) -> None:
    def refuse(word: str) -> None:
        raise ValueError(word)

    write_json(evaluation, tmp_path / "metrics.json")
    read = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    assert read["cases"]['a,"1"']["liver"]["dice"] == 2 / 3
    assert read["cases"]['a,"1"']["aorta"]["dice"] is None
    assert read["rule"]["both_absent"] is None
    assert read["organs"] == evaluation["organs"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, evaluation: dict[str, object]) -> None:
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_json({**evaluation, "bad": object()}, path)
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["old"]


def test_table_shows_figures_with_their_numbers_of_cases(evaluation: dict[str, object]) -> None:
    lines = format_table(evaluation).splitlines()
    words = [line.split() for line in lines]
    assert ["liver", "0.6667", "0.6667", "0.6667", "1", "0", "0", "0", 'a,"1"'] in words
    assert ["aorta", "-", "-", "-", "0", "0", "0", "1", "-"] in words
    assert ["mean", "of", "1", "of", "2", "organs", "0.6667"] in words
    assert lines[-1] == "Protocol 'nnunet': as stated."
    assert "tolerance 'flare', 1 to 2 mm" in lines[-2]
    assert "1 case(s) scored" in lines[-3]


def test_surface_and_volume_table(evaluation: dict[str, object]) -> None:
    words = [line.split() for line in format_table(evaluation).splitlines()]
    #        organ   NSD       n    HD95    ASSD    n    ml     error   parts  true   swapped
    assert ["liver", "0.7500", "1", "3.25", "0.50", "1", "4.0", "-2.0", "3.0", "1.0", "-"] in words
    assert ["aorta", "-", "0", "-", "-", "0", "0.0", "0.0", "0.0", "0.0", "-"] in words
    assert ["mean", "of", "n", "organs", "0.7500", "1", "3.25", "0.50", "1"] in words


def test_protocols_side_by_side(evaluation: dict[str, object]) -> None:
    cases = {"a": {"glands": {"dice": 0.25, "truth_voxels": 1, "prediction_voxels": 1}}}
    other = {"protocol": {"name": "other", "statement": "differs", "source": ""}, **summarise(cases, ["glands"])}
    rows = [[cell.strip() for cell in line.split("|")] for line in format_protocols([evaluation, other]).splitlines()]
    assert rows[0] == ["", "organ", "nnunet", "other", ""]
    assert {cell.strip(":-") for cell in rows[1]} == {""}
    assert rows[2:6] == [
        ["", "liver", "0.6667 (1)", "", ""],
        ["", "aorta", "- (0)", "", ""],
        ["", "glands", "", "0.2500 (1)", ""],
        ["", "mean", "0.6667 (1 columns)", "0.2500 (1 columns)", ""],
    ]
    assert rows[-2:] == [["- `nnunet`: as stated."], ["- `other`: differs."]]
