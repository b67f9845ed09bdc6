import json
from pathlib import Path

import pytest

from unetr_nnunet.experiments.resources import case_count, case_voxels, read_cost, request, retries
from unetr_nnunet.experiments.study import Model, Study, Table

STUDY = Study(17, (Model("nnUNetTrainer"), Model("nnUNetTrainerUNETR")))
MODEL = STUDY.models[0].identifier
FOLD = {"model": MODEL, "fold": "1"}
DAY = 24 * 60


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    return tmp_path


def dataset(folder: Path, text: str = "{}", name: str = "Dataset017_BTCV") -> Path:
    path = folder / "raw" / name / "dataset.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def fingerprint(folder: Path, text: str, name: str = "Dataset017_BTCV") -> None:
    dataset(folder, name=name)
    path = folder / "preprocessed" / name / "dataset_fingerprint.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def cost(folder: Path, fold: int, seconds: str, memory_mb: str, model: str = MODEL) -> Path:
    """Write a benchmark file as Snakemake 9 does."""
    path = folder / "costs" / "train" / model / f"fold_{fold}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ["s", "h:m:s", "max_rss", "max_vms", "max_uss", "max_pss", "io_in", "io_out", "mean_load", "cpu_time"]
    values = [seconds, "1:00:00", memory_mb, "1.0", "1.0", "1.0", "0.0", "0.0", "99.0", "1.0"]
    path.write_text("\t".join(names) + "\n" + "\t".join(values) + "\n")
    return path


def test_the_first_asks_generously(folder: Path) -> None:
    assert request(STUDY, folder, "train", FOLD) == {
        "mem_mb": 20896,
        "runtime": 3 * DAY,
    }  # 4096 MB and twice 8400 MB of logits
    assert request(STUDY, folder, "best", {}) == {"mem_mb": 20896, "runtime": DAY}


def test_memory_follows_the_largest_case(folder: Path) -> None:
    shapes = [[100, 100, 100], [256, 256, 128], [10, 10, 10]]
    fingerprint(folder, json.dumps({"shapes_after_crop": shapes}))
    assert case_voxels(STUDY) == 2**23
    assert request(STUDY, folder, "data", {})["mem_mb"] == 4096 + 2 * 8 * 14 * 4 * 3
    fingerprint(folder, json.dumps({"shapes_after_crop": [[999, 999, 999]]}), "Dataset117_Other")
    assert case_voxels(STUDY) == 2**23


@pytest.mark.parametrize("text", ['{"shapes_af', "{}", '{"shapes_after_crop": []}'])
def test_a_fingerprint_that_tells_nothing(folder: Path, text: str) -> None:
    fingerprint(folder, text)
    assert case_voxels(STUDY) == 512 * 512 * 200


def test_what_other_folds_have_cost_is_asked_for_with_a_reserve(folder: Path) -> None:
    cost(folder, 0, "6000.0", "6000.5")
    cost(folder, 2, "7200.0", "1000.0")
    cost(folder, 3, "90000.0", "90000.0", STUDY.models[1].identifier)
    assert request(STUDY, folder, "train", FOLD) == {"mem_mb": 9001, "runtime": 180}
    assert request(STUDY, folder, "train", FOLD, attempt=2) == {"mem_mb": 13502, "runtime": 270}
    assert request(STUDY, folder, "best", {})["runtime"] == DAY


def test_a_request_grows_twofold_at_most_and_not_beyond_the_partitions_limit(folder: Path) -> None:
    first = request(STUDY, folder, "train", FOLD)
    last = request(STUDY, folder, "train", FOLD, attempt=9)
    assert last == {name: 2 * value for name, value in first.items()}
    assert request(STUDY, folder, "train", FOLD, 1, DAY) == {"mem_mb": first["mem_mb"], "runtime": DAY}
    assert request(STUDY, folder, "train", FOLD, 1, 9 * DAY) == first
    cost(folder, 0, "66.5", "NA")
    assert request(STUDY, folder, "train", FOLD, 1, 5)["runtime"] == 5


def test_a_resumed_training_asks_for_the_whole(folder: Path) -> None:
    model, other = Model("nnUNetTrainerUNETR_4epochs"), Model("nnUNetTrainer")
    dataset(folder)
    fold = folder / "results" / "Dataset017_BTCV" / model.identifier / "fold_0"
    fold.mkdir(parents=True)
    lines = ["2026-01-01 00:00:00.0: Epoch 0 ", "2026-01-01 01:00:00.0: Epoch time: 3600.0 s "]
    (fold / "training_log_2026_1_1_00_00_00.txt").write_text("\n".join(lines))
    cost(folder, 0, "60.0", "2000.5", model.identifier)
    tables = (Table("Networks", (("nnU-Net", "nnUNetTrainer"),)),)
    wanted = request(
        Study(17, (model, other), tables=tables), folder, "train", {"model": model.identifier, "fold": "1"}
    )
    assert wanted["runtime"] == 4 * 60 * 1.5


def test_a_training_that_was_done_before_tells_nothing(folder: Path) -> None:
    cost(folder, 0, "0.6", "40.7")
    assert request(STUDY, folder, "train", FOLD) == {"mem_mb": 20896, "runtime": 3 * DAY}
    cost(folder, 1, "100", "40.7")
    assert request(STUDY, folder, "train", FOLD)["mem_mb"] == 4096, "a process with torch needs that much"


def test_memory_follows_the_labels(folder: Path) -> None:
    path = dataset(folder, json.dumps({"labels": {str(number): number for number in range(118)}}))
    assert request(STUDY, folder, "best", {})["mem_mb"] == 4096 + 118 * 200 * 4 * 3 * 2 * 512 * 512 // 2**20
    path.write_text("[]")
    assert request(STUDY, folder, "best", {})["mem_mb"] == 20896


def test_a_cost_without_memory_leaves_the_guess(folder: Path) -> None:
    cost(folder, 0, "66.5", "NA")
    assert request(STUDY, folder, "train", FOLD) == {"mem_mb": 20896, "runtime": 10}


@pytest.mark.parametrize("text", ["", "s\th:m:s\tmax_rss\n", "other\n1\n", "s\tmax_rss\nsoon\t1\n"])
def test_a_damaged_cost_is_none(folder: Path, text: str) -> None:
    path = cost(folder, 0, "1", "1")
    path.write_text(text)
    assert read_cost(path) == {"seconds": 0, "memory_mb": 0}
    assert request(STUDY, folder, "train", FOLD)["runtime"] == 3 * DAY


def test_the_columns_are_those_that_snakemake_writes() -> None:
    from snakemake.benchmark import BenchmarkRecord

    assert {"s", "max_rss"} <= set(BenchmarkRecord.get_header())


def test_cases_of_the_data_set_or_of_btcv(folder: Path) -> None:
    assert case_count(STUDY) == 30
    dataset(folder, '{"numTraining": 20}')
    assert case_count(STUDY) == 20


def test_a_training_longer_than_a_partition_allows_gets_more_jobs() -> None:
    assert [retries(limit) for limit in (None, DAY, 7 * DAY)] == [1, 3, 1]
