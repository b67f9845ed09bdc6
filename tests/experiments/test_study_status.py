from pathlib import Path

import pytest

from unetr_nnunet.experiments.study import Model, Study
from unetr_nnunet.experiments.study_status import read_status

ONE, OTHER = Model("nnUNetTrainerUNETR_10epochs"), Model("nnUNetTrainer")
STUDY = Study(17, (ONE, OTHER), (0, 1))


def write_log(results: Path, model: Model, fold: int, seconds: list[float], debug: str = "") -> None:
    """Write a training's log as nnU-Net 2.8 does."""
    folder = results / model.identifier / f"fold_{fold}"
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["", "#######", "Please cite the following paper", "#######", ""]
    for epoch, took in enumerate([*seconds, None]):
        stamp = f"2026-01-01 00:00:{epoch:02d}.000001"
        lines += [f"{stamp}: ", f"{stamp}: Epoch {epoch}", f"{stamp}: Current learning rate: 0.01"]
        if took is not None:  # the last epoch runs still
            lines += [f"{stamp}: train_loss -0.5", f"{stamp}: val_loss -0.4", f"{stamp}: Pseudo dice [np.float32(0.5)]"]
            lines += [f"{stamp}: Epoch time: {took} s"]
    (folder / "training_log_2026_1_1_00_00_00.txt").write_text("\n".join(lines))
    if debug:
        (folder / "debug.json").write_text(debug)


def mark(study: Path, *names: str) -> None:
    for name in names:
        path = study / "done" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_before_anything(tmp_path: Path) -> None:
    status = read_status(STUDY, tmp_path, None)
    assert (status.done, status.total) == (0, 11)  # 7 steps around 4 trainings
    assert status.left_hours(1) is None
    names = ("data", "plan", "preprocess", "candidates", "best", "test", "report")
    assert status.lines(1) == [
        "0 of 11 steps are done",
        "  4 trainings have not begun",
        *(f"  {name}: not done" for name in names),
    ]


def test_marks_logs_and_the_time_that_is_left(tmp_path: Path) -> None:
    results = tmp_path / "results"
    mark(tmp_path, "data", "plan", "preprocess", f"train/{ONE.identifier}/fold_0")
    (tmp_path / "candidates.json").write_text("[]")
    write_log(results, ONE, 0, [3600.0] * 10)
    write_log(results, ONE, 1, [3600.0, 1800.0, 3600.0])
    write_log(results, OTHER, 0, [36.0], '{\n    "num_epochs": "1000",\n    "fold": "0"\n}')
    status = read_status(STUDY, tmp_path, results)
    assert (status.done, status.total) == (5, 11)
    done, running, other, waiting = status.trainings
    assert (done.done, done.epochs, done.planned_epochs, done.left_s) == (True, 10, 10, 0)
    assert (running.done, running.epochs, running.planned_epochs, running.left_s) == (False, 3, 10, 7 * 3600)
    assert (other.epochs, other.planned_epochs, other.left_s) == (1, 1000, 999 * 36)
    assert (waiting.epochs, waiting.planned_epochs, waiting.left_s) == (0, 1000, 36000)
    assert status.left_hours(1) == pytest.approx(7 + 9.99 + 10)
    assert status.left_hours(2) == pytest.approx((7 + 9.99 + 10) / 2)
    assert status.lines(2) == [
        "5 of 11 steps are done",
        f"  {ONE.identifier} fold 1: 3 of 10 epochs",
        f"  {OTHER.identifier} fold 0: 1 of 1000 epochs",
        "  1 trainings have not begun",
        "  best: not done",
        "  test: not done",
        "  report: not done",
        "about 13.5 hours of training left, 2 at once",
    ]


def test_a_model_that_no_log_tells_of_takes_as_long_as_the_others(tmp_path: Path) -> None:
    write_log(tmp_path, ONE, 0, [3600.0])
    status = read_status(STUDY, tmp_path, tmp_path)
    assert status.left_hours(1) == pytest.approx(9 + 10 + 10 + 10)


def test_nothing_is_left_at_the_end(tmp_path: Path) -> None:
    mark(tmp_path, *("data", "plan", "preprocess", "best", "test", "report"))
    mark(tmp_path, *(f"train/{model.identifier}/fold_{fold}" for model in STUDY.models for fold in STUDY.folds))
    (tmp_path / "candidates.json").write_text("[]")
    assert read_status(STUDY, tmp_path, None).lines(1) == ["11 of 11 steps are done"]


@pytest.mark.parametrize(
    ("trainer", "epochs"), [("nnUNetTrainer_50epochs", 50), ("nnUNetTrainer_1epoch", 1), ("nnUNetTrainer", None)]
)
def test_epochs_in_the_name_of_a_trainer(tmp_path: Path, trainer: str, epochs: int | None) -> None:
    (training,) = read_status(Study(17, (Model(trainer),), (0,)), tmp_path, tmp_path).trainings
    assert training.planned_epochs == epochs


def test_what_was_measured_tells_where_no_log_does(tmp_path: Path) -> None:
    write_log(tmp_path, ONE, 0, [3600.0])
    status = read_status(STUDY, tmp_path, tmp_path)
    assert status.left_hours(1, {OTHER.identifier: 7200.0}) == pytest.approx(9 + 10 + 2 + 2)
    assert status.left_hours(1, {ONE.identifier: 0.0, OTHER.identifier: 7200.0}) == pytest.approx(9 + 10 + 2 + 2)
    nothing = read_status(STUDY, tmp_path / "none", None)
    assert nothing.left_hours(2, {ONE.identifier: 3600.0}) == pytest.approx(4 / 2), "others take as long"
