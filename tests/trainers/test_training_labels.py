import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetr_nnunet.nnunet.label_statistics import FILE, Order, read_statistics
from unetr_nnunet.trainers import training_labels
from unetr_nnunet.trainers.training_labels import PreprocessedCases, write_training_statistics

PLANS = {
    "transpose_forward": [0, 1, 2],
    "foreground_intensity_properties_per_channel": {"0": {"mean": 100.0, "std": 50.0}},
}


@pytest.fixture
def cases(tmp_path: Path) -> PreprocessedCases:
    """Twelve cases of a liver and a spleen, 20 voxels apart from left to right."""
    names = [f"case_{number:02d}" for number in range(12)]
    (tmp_path / "data").mkdir()
    for name in names:
        (tmp_path / "data" / f"{name}.pkl").touch()

    def load(name: str) -> tuple[Any, Any, Any, dict[str, Any]]:
        labels = np.full((1, 10, 20, 40), -1, np.int8)
        labels[:, 1:] = 0
        labels[0, 3 : 5 + names.index(name) % 2, 5:10, 25:30] = 1
        labels[0, 3:5, 5:10, 0:5] = 2
        image = np.full((1, 10, 20, 40), -0.8, np.float32)
        properties = {
            "spacing": [5.0, 1.0, 1.0],
            "bbox_used_for_cropping": [[0, 10], [0, 20], [3, 43]],
            "shape_before_cropping": (10, 20, 60),
        }
        return image, labels, None, properties

    dataset = {"labels": {"background": 0, "liver": 1, "spleen": 2}}
    return PreprocessedCases(tmp_path, "data", names, load, PLANS, (4.0, 2.0, 2.0), "CTNormalization", dataset, "RAS")


def test_what_is_learnt_of_the_cases(cases: PreprocessedCases, tmp_path: Path) -> None:
    line = write_training_statistics(cases, tmp_path / "model")
    statistics = read_statistics(tmp_path / "model" / FILE)
    assert "labels of 12 training cases" in line
    assert statistics is not None
    assert statistics.cases == 12
    assert statistics.organs["liver"].ranges == {
        "volume_ml": (0.8, 1.2),
        "mean_hu": pytest.approx((60, 60)),
        "parts": (1, 1),
    }
    assert statistics.order == (Order(towards="left", first="spleen", second="liver"),)  # x runs to the right
    assert statistics.organs["spleen"].near_border == (
        0,
        0,
        12,
        0,
        0,
        0,
    )  # its side of the grid is where air was cropped off


def test_slices_have_the_spacing_of_their_case(cases: PreprocessedCases) -> None:
    flat = replace(cases, spacing_mm=(2.0, 2.0))
    assert flat.measure("case_00")["spleen"].volume_ml == pytest.approx(50 * 20 / 1000)


def test_without_a_common_orientation_no_order_is_learnt(cases: PreprocessedCases, tmp_path: Path) -> None:
    write_training_statistics(replace(cases, orientation=None), tmp_path / "model")
    statistics = read_statistics(tmp_path / "model" / FILE)
    assert statistics is not None
    assert statistics.order == ()


def test_only_cases_that_a_fold_trains_on_are_measured(cases: PreprocessedCases) -> None:
    (cases.folder / "splits_final.json").write_text(
        json.dumps([{"train": ["case_01", "case_03"], "val": ["case_02"]}, {"train": ["case_04"], "val": ["case_01"]}])
    )
    assert cases.training_cases() == ["case_01", "case_03", "case_04"]


def test_of_many_cases_some_are_measured(cases: PreprocessedCases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_labels, "MOST_CASES", 5)
    assert cases.training_cases() == ["case_00", "case_03", "case_06", "case_09"]


def test_a_second_training_measures_nothing_unless_the_cases_have_changed(
    cases: PreprocessedCases, tmp_path: Path
) -> None:
    loaded: list[str] = []

    def load(name: str) -> Any:
        loaded.append(name)
        return cases.load(name)

    counted = replace(cases, load=load)
    write_training_statistics(counted, tmp_path / "first")
    assert len(loaded) == 12
    write_training_statistics(counted, tmp_path / "second")
    assert len(loaded) == 12
    assert (tmp_path / "second" / FILE).read_text() == (tmp_path / "first" / FILE).read_text()
    later = cases.cache.stat().st_mtime + 10
    os.utime(tmp_path / "data" / "case_05.pkl", (later, later))
    write_training_statistics(counted, tmp_path / "second")
    assert len(loaded) == 24
    cases.cache.write_text("{")
    os.utime(cases.cache, (later + 10, later + 10))
    write_training_statistics(counted, tmp_path / "second")
    assert len(loaded) == 36


Make = Callable[..., Any]


def test_a_training_leaves_the_file_in_the_model_folder(make_trainer: Make) -> None:
    trainer = make_trainer("nnUNetTrainerUNETR_Tiny_1epochs")
    trainer.on_train_start()
    model = Path(trainer.output_folder_base)
    statistics = read_statistics(model / FILE)
    assert statistics is not None
    assert statistics.cases == 5
    assert set(statistics.organs) == {"bright", "dark"}
    assert statistics.organs["bright"].ranges["mean_hu"][0] > 250
    make_trainer("nnUNetTrainerUNETR_Tiny_1epochs", fold=1).on_train_start()  # nnU-Net accepts the folder as it is


def test_a_training_goes_on_where_the_labels_cannot_be_measured(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("unetr_nnunet.trainers.training_labels.write_training_statistics", broken)
    trainer = make_trainer("nnUNetTrainerUNETR_Tiny_1epochs")
    lines: list[str] = []
    trainer.print_to_log_file = lambda *words, **_: lines.append(" ".join(map(str, words)))
    trainer.on_train_start()
    assert "The training labels could not be measured: disk full" in lines
