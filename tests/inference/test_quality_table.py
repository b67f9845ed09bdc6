from pathlib import Path

from unetr_nnunet.inference.quality import CaseMeasures
from unetr_nnunet.inference.quality_table import QualityTable
from unetr_nnunet.nnunet.organ_measures import OrganMeasures

MEASURES = CaseMeasures({"liver": OrganMeasures(900, 60, 2, None, (0, 9))}, {"liver": 0.91234}, {"liver": 0.5})


def test_one_row_a_case_and_organ(tmp_path: Path) -> None:
    table = QualityTable(tmp_path / "quality.csv")
    table.replace("b", ("liver", "spleen"), MEASURES, {"liver": ["2 parts, training 1", "folds disagree: Dice 0.50"]})
    table.replace("a", ("liver", "spleen"), CaseMeasures({}), {"(case)": ["nothing was found"]})
    assert (tmp_path / "quality.csv").read_text().splitlines() == [
        "case,organ,parts,at_border,probability,fold_dice,flags",
        "a,(case),,,,,nothing was found",
        "a,liver,0,,,,",
        "a,spleen,0,,,,",
        'b,liver,2,yes,0.912,0.500,"2 parts, training 1; folds disagree: Dice 0.50"',
        "b,spleen,0,,,,",
    ]


def test_one_line_for_all_cases(tmp_path: Path) -> None:
    table = QualityTable(tmp_path / "quality.csv")
    assert table.summary() == ""
    table.replace("a", ("liver",), MEASURES, {})
    assert table.summary() == "no mask of 1 case stands out"
    table.replace("b", ("liver", "spleen"), MEASURES, {"spleen": ["empty"], "(case)": ["the image may be mirrored"]})
    table.replace("c", ("liver", "spleen"), MEASURES, {"liver": ["2 parts, training 1"]})
    assert table.summary() == (
        "2 of 3 cases to look at: b (the image may be mirrored; 1 more), c (liver: 2 parts, training 1)"
    )


def test_of_many_cases_the_line_names_five(tmp_path: Path) -> None:
    table = QualityTable(tmp_path / "quality.csv")
    for number in range(7):
        table.replace(f"case_{number}", ("liver",), MEASURES, {"liver": ["empty"]})
    assert table.summary().endswith("case_4 (liver: empty), 2 more in quality.csv")


def test_a_resumed_run_counts_the_cases_before(tmp_path: Path) -> None:
    path = tmp_path / "quality.csv"
    QualityTable(path).replace("a", ("liver",), MEASURES, {"liver": ["empty"]})
    later = QualityTable(path)
    later.replace("b", ("liver",), MEASURES, {})
    assert later.summary().startswith("1 of 2 cases to look at: a (liver: empty)")
