import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import shorten_epochs
from unetr_nnunet.experiments import demo
from unetr_nnunet.experiments.crossval import dry_run
from unetr_nnunet.experiments.demo import PHANTOM_LABELS, run_demo
from unetr_nnunet.experiments.settings import Settings, read_settings
from unetr_nnunet.experiments.study import FILE, Model, Study
from unetr_nnunet.experiments.study_file import read_study_file
from unetr_nnunet.nnunet_hook.environment import FOLDERS


@pytest.fixture(autouse=True)
def _own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo sets nnU-Net's variables; other tests keep theirs."""
    for name in (*FOLDERS, "nnUNet_extTrainer"):
        monkeypatch.setenv(name, "/elsewhere")


def test_everything_goes_into_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[Study, Settings, Path]] = []

    def run_study(*arguments: object) -> None:
        runs.append(arguments)  # type: ignore[arg-type]
        (tmp_path / "nnUNet_raw" / "Dataset017_BTCV").mkdir(parents=True)
        (tmp_path / "nnUNet_raw" / "Dataset017_BTCV" / "dataset.json").touch()

    monkeypatch.setattr(demo, "run_study", run_study)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)))
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "configure").touch()  # as version 0.1 left it
    data = run_demo(tmp_path)
    ((study, settings, folder),) = runs
    assert folder == tmp_path
    assert study == read_study_file(demo.STUDY_FILE)
    assert (settings.device, settings.cores, settings.trainings_at_once) == ("cpu", 4, 4)
    assert {os.environ[name] for name in FOLDERS} == {str(tmp_path / name) for name in FOLDERS}
    assert data.results == tmp_path / "nnUNet_results" / "Dataset017_BTCV"
    assert (tmp_path / FILE).is_file(), "so that the folder is taken for a study's"


@pytest.mark.slow
def test_a_small_demo_runs_from_download_to_masks_and_is_not_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_epochs(monkeypatch, 40)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})  # one thread: other tests run beside this one
    whole = read_study_file(demo.STUDY_FILE)
    phantom, convert = whole.data
    ((name, configuration),) = whole.configurations.items()
    trainer = whole.models[0].trainer.replace("_5epochs", "_1epochs")
    small = replace(
        whole,
        models=(Model(trainer, configuration=name),),
        folds=(0,),
        data=(tuple({"15": "5", "4": "1"}.get(word, word) for word in phantom), convert),
        configurations={name: {**configuration, "patch_size": [16, 32, 32]}},
    )
    data = run_demo(tmp_path, small)
    predictions = tmp_path / "predictions"
    assert [path.name for path in predictions.glob("*.nii.gz")] == ["BTCV_0061.nii.gz"]
    assert [path.name for path in (tmp_path / PHANTOM_LABELS).iterdir()] == ["label0061.nii.gz"]
    assert data.results.is_dir()
    stamp = (predictions / "BTCV_0061.nii.gz").stat().st_mtime_ns
    assert dry_run(small, read_settings(tmp_path), tmp_path) == "nothing to be done"
    run_demo(tmp_path, small)
    assert (predictions / "BTCV_0061.nii.gz").stat().st_mtime_ns == stamp
