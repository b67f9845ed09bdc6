from pathlib import Path

import pytest

from tests.report.studies import write_log
from unetr_nnunet.nnunet.training_log import read_fold_logs


def test_curves_hours_and_validation(tmp_path: Path) -> None:
    write_log(tmp_path)
    (tmp_path / "fold_1").mkdir()  # not begun
    (log,) = read_fold_logs(tmp_path)
    assert log.fold == "0"
    assert log.curve("train_loss") == [(0, 0.5), (1, -0.5), (2, -1.5)]
    assert log.curve("val_loss")[0] == (0, 0.25)
    assert log.curve("pseudo_dice") == [(0, pytest.approx(0.1)), (1, pytest.approx(0.2)), (2, pytest.approx(0.3))]
    assert log.training_hours() == pytest.approx(3 * 36 / 3600)
    assert (log.validated, log.validation_seconds) == (2, 30)


def test_a_resumed_training_is_one_curve(tmp_path: Path) -> None:
    folder = write_log(tmp_path, epochs=3)
    first = next(folder.glob("fold_0/*.txt"))
    lines = first.read_text().splitlines()
    later = [line.replace("train_loss -0.5000", "train_loss -9").replace("Epoch 0", "Epoch 9") for line in lines]
    (folder / "fold_0" / "training_log_2026_11_24.txt").write_text("\n".join(later))
    (log,) = read_fold_logs(folder)
    assert [epoch for epoch, _ in log.curve("train_loss")] == [0, 1, 2, 9]
    assert log.curve("train_loss")[1] == (1, -9)


def test_a_log_cut_short_and_one_of_nonsense(tmp_path: Path) -> None:
    folder = write_log(tmp_path)
    path = next(folder.glob("fold_0/*.txt"))
    path.write_bytes(path.read_bytes()[:700] + b"\xff\xfe")
    (log,) = read_fold_logs(folder)
    assert log.curve("train_loss")[0] == (0, 0.5)
    assert log.validation_seconds is None
    path.write_text("nothing")
    assert read_fold_logs(folder) == []
