import csv
import json
import math
from pathlib import Path

import pytest

from unetr_nnunet.evaluation.summary import summarise
from unetr_nnunet.evaluation.tables import format_table, write_csv, write_json


@pytest.fixture
def evaluation() -> dict[str, object]:
    cases = {
        'a,"1"': {
            "liver": {"dice": 2 / 3, "truth_voxels": 4, "prediction_voxels": 2, "overlap_voxels": 2},
            "aorta": {"dice": math.nan, "truth_voxels": 0, "prediction_voxels": 0, "overlap_voxels": 0},
        }
    }
    return {
        "label_source": "a test",
        "rule": {"name": "nnunet", "both_absent": math.nan, "statement": "as stated"},
        **summarise(cases, ["liver", "aorta"]),
        "cases": cases,
    }


def test_csv_has_a_row_for_each_case_and_organ(tmp_path: Path, evaluation: dict[str, object]) -> None:
    write_csv(evaluation, tmp_path / "out" / "metrics.csv")
    with (tmp_path / "out" / "metrics.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows == [
        ["case", "organ", "dice", "truth_voxels", "prediction_voxels"],
        ['a,"1"', "liver", repr(2 / 3), "4", "2"],
        ['a,"1"', "aorta", "", "0", "0"],
    ]


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
    assert lines[-1] == "Rule 'nnunet': as stated."
    assert "1 case(s) scored" in lines[-2]
