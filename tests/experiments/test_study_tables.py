import math
from pathlib import Path

from unetr_nnunet.experiments.study import Model, Study, Table
from unetr_nnunet.experiments.study_tables import write_tables
from unetr_nnunet.nnunet.summary import LabelFigures, Summary, SummaryCase, write_summary

SEEDS = (Model("nnUNetTrainerUNETR_seed0"), Model("nnUNetTrainerUNETR_seed1"))
PLAIN, OTHER_PLANS = Model("nnUNetTrainer"), Model("nnUNetTrainer", "Other")
Cases = dict[str, list[tuple[float, int, int]]]
"""Case -> (Dice, true positives, reference voxels) of each organ."""


def write_fold(results: Path, model: Model, fold: int, cases: Cases, losses: tuple[float, ...] = ()) -> None:
    folder = results / model.identifier / f"fold_{fold}"
    (folder / "validation").mkdir(parents=True)
    scored = []
    for case, organs in cases.items():
        files = f"{folder}/validation/{case}.nii.gz", f"/somewhere/gt_segmentations/{case}.nii.gz"
        figures = {
            str(organ): LabelFigures(Dice=dice, IoU=dice, FP=0, TP=true, FN=0, TN=0, n_pred=0, n_ref=reference)
            for organ, (dice, true, reference) in enumerate(organs, 1)
        }
        scored.append(SummaryCase(*files, figures))
    write_summary(Summary(scored), {}, LabelFigures(*[0] * 8), folder / "validation" / "summary.json")
    lines = []
    for epoch, loss in enumerate(losses):
        lines += [f"2026-01-01 00:00:00.5: Epoch {epoch}", f"2026-01-01 00:00:00.5: train_loss {loss}"]
    (folder / "training_log_2026_1_1_00_00_00.txt").write_text("\n".join(lines))


def rows(path: Path) -> dict[str, list[str]]:
    lines = [line for line in path.read_text().splitlines() if line.startswith("| ") and "training loss" not in line]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {cell[0]: cell[1:] for cell in cells}


def test_figures_worked_out_on_paper(tmp_path: Path) -> None:
    nan = math.nan
    write_fold(tmp_path, SEEDS[0], 0, {"a": [(0.8, 8, 10), (nan, 0, 0)]}, (0.0, -0.5))
    write_fold(tmp_path, SEEDS[0], 1, {"b": [(0.6, 6, 10), (0.5, 1, 4)]}, (0.0, -0.3))
    write_fold(tmp_path, SEEDS[1], 0, {"a": [(0.4, 4, 10), (nan, 0, 0)]}, (0.0, -0.7))
    write_fold(tmp_path, SEEDS[1], 1, {"b": [(0.6, 6, 10), (0.1, 0, 4)]}, (0.0, -0.1))
    write_tables(Study(17, SEEDS, (0, 1)), tmp_path, tmp_path / "tables.md")
    loss = (0.5 + 0.3 + 0.7 + 0.1) / 4
    accuracy = (8 + 6 + 1 + 4 + 6) / (4 * 10 + 2 * 4)
    first = ((0.8 + 0.4) / 2 + (0.6 + 0.6) / 2) / 2  # organ 1: over seeds, then cases
    second = (0.5 + 0.1) / 2  # organ 2: only case b has it
    expected = [f"-{loss:.4f}", f"{accuracy:.3f}", f"{(first + second) / 2:.3f}", "-", "2", "2"]
    assert rows(tmp_path / "tables.md") == {"nnUNetTrainerUNETR": expected}
    assert "mean over validation cases of 2 fold(s)" in (tmp_path / "tables.md").read_text()


def test_an_interval_around_the_mean_of_many_cases(tmp_path: Path) -> None:
    cases: Cases = {f"case_{number}": [(0.5 + number / 100, 1, 2)] for number in range(21)}
    write_fold(tmp_path, PLAIN, 0, cases)
    write_tables(Study(17, (PLAIN,), (0,)), tmp_path, tmp_path / "tables.md")
    (row,) = rows(tmp_path / "tables.md").values()
    low, high = map(float, row[3].split(" to "))
    assert row[2] == "0.600"
    # Student's t: 0.6 -+ 2.086 * 0.0620 / sqrt(21) = 0.6 -+ 0.0282
    assert abs(low - 0.5718) < 0.004
    assert abs(high - 0.6282) < 0.004
    assert row[4] == "21"


def test_the_rows_that_a_study_names(tmp_path: Path) -> None:
    write_fold(tmp_path, PLAIN, 0, {"a": [(0.75, 3, 4)]})
    write_fold(tmp_path, OTHER_PLANS, 0, {"a": [(0.25, 1, 4)]})
    named = (("first", "nnUNetTrainer"), ("other", "nnUNetTrainer__Other"))
    study = Study(17, (PLAIN, OTHER_PLANS), (0,), tables=(Table("Plans", named),))
    write_tables(study, tmp_path, tmp_path / "tables.md")
    assert (tmp_path / "tables.md").read_text().startswith("### Plans\n")
    found = rows(tmp_path / "tables.md")
    assert [found[label][2] for label in ("first", "other")] == ["0.750", "0.250"]
    assert [found[label][1] for label in ("first", "other")] == ["0.750", "0.250"]


def test_folds_beside_the_study_do_not_count(tmp_path: Path) -> None:
    write_fold(tmp_path, PLAIN, 0, {"a": [(0.75, 3, 4)]}, (-0.5,))
    write_fold(tmp_path, PLAIN, 1, {"b": [(0.25, 1, 4)]}, (-0.1,))
    write_tables(Study(17, (PLAIN,), (0,)), tmp_path, tmp_path / "tables.md")
    assert rows(tmp_path / "tables.md")["nnUNetTrainer"][:3] == ["-0.5000", "0.750", "0.750"]
