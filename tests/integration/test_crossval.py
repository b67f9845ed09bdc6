"""A whole study with real trainings: on this machine, and on a real Slurm with a job cancelled in the middle.

Both studies end with the same table and the same choice, and the choice is that of nnUNetv2_find_best_configuration.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.conftest import DATASET, nnunet_command, set_nnunet_folders, shorten_epochs, write_blob_dataset
from unetr_nnunet.experiments import slurm

pytestmark = pytest.mark.slow

TRAINERS = ("nnUNetTrainerUNETR_Tiny_NoAug_1epochs_seed0", "nnUNetTrainerUNETR_Modified_Tiny_NoAug_1epochs_seed0")
WORDS = ("-d", "917", "-tr", *TRAINERS, "--folds", "0", "--device", "cpu", "--cores", "1")
ITERATIONS = 200  # enough seconds to disturb a training twice


def has_slurm() -> bool:
    return (
        shutil.which("sinfo") is not None and not subprocess.run(["sinfo"], capture_output=True, check=False).returncode
    )


@pytest.fixture(scope="module")
def local_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("local")
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_nnunet_folders(monkeypatch, root)
        shorten_epochs(monkeypatch, ITERATIONS)
        write_blob_dataset(root / "nnUNet_raw")
        nnunet_command("unetr_nnunet", "crossval", *WORDS, "-o", str(root / "study"))
    return root


def chosen(root: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((root / "study" / "best_model" / DATASET / "best_model.json").read_text())
    return content


def test_leaves_report_tables_model_and_predictions(local_study: Path) -> None:
    study = local_study / "study"
    assert "nnUNetTrainerUNETR_Modified_Tiny_NoAug_1epochs" in (study / "tables.md").read_text()
    assert "<html" in (study / "report.html").read_text()
    mask = np.asarray(nibabel.load(study / "predictions" / "case_5.nii.gz").dataobj)
    image = np.asarray(nibabel.load(local_study / "nnUNet_raw" / DATASET / "imagesTs" / "case_5_0000.nii.gz").dataobj)
    assert 2 * np.sum((mask == 1) & (image > 150)) / (np.sum(mask == 1) + np.sum(image > 150)) > 0.5
    assert not any((study / "probabilities").rglob("*.npz")), "removed after use"


def test_chooses_as_nnunet_does(local_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_nnunet_folders(monkeypatch, local_study)
    ours = chosen(local_study)
    for trainer in TRAINERS:
        words = ("-tr", trainer, "-device", "cpu", "--val", "--npz")
        nnunet_command("nnUNetv2_train", "917", "3d_fullres", "0", *words)
    words = ("-c", "3d_fullres", "-tr", *TRAINERS, "-f", "0", "-np", "1")
    nnunet_command("nnUNetv2_find_best_configuration", "917", *words)
    results = local_study / "nnUNet_results" / DATASET
    theirs = json.loads((results / "inference_information.json").read_text())
    scores = {"___".join(entry["models"]): entry["dice"] for entry in ours["tried"]}  # type: ignore[attr-defined]
    for name, dice in theirs["all_results"].items():
        members = name.removeprefix("ensemble___").removesuffix("___0")
        assert scores[members] == pytest.approx(dice, abs=2e-3), "float16, and our own sliding window"
    best = theirs["best_model_or_ensemble"]
    models = [
        f"{one['trainer']}__{one['plans_identifier']}__{one['configuration']}"
        for one in best["selected_model_or_models"]
    ]
    assert ours["nnunet_choice"] == models
    rules = json.loads((Path(best["postprocessing_file"]).with_suffix(".json")).read_text())
    names = [name for name, _ in ours["postprocessing"]]  # type: ignore[attr-defined]
    assert names == rules["postprocessing_fns"]


def test_installs_elsewhere(local_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = local_study / "study" / "best_model.zip"
    images = local_study / "nnUNet_raw" / DATASET / "imagesTs"
    expected = np.asarray(nibabel.load(local_study / "study" / "predictions" / "case_5.nii.gz").dataobj)
    set_nnunet_folders(monkeypatch, tmp_path)
    nnunet_command("nnUNetv2_install_pretrained_model_from_zip", str(archive))
    installed = tmp_path / "nnUNet_results" / DATASET
    for model in (archive, installed):
        out = tmp_path / f"masks_{model.name}"
        nnunet_command(
            "unetr_nnunet", "predict", "-m", str(model), "-i", str(images), "-o", str(out), "--device", "cpu"
        )
        assert np.array_equal(np.asarray(nibabel.load(out / "case_5.nii.gz").dataobj), expected)


def test_second_study_on_the_same_data_set_is_refused_by_name(
    local_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unetr_nnunet.folder_lock import folder_lock

    set_nnunet_folders(monkeypatch, local_study)
    with folder_lock(local_study / "study"), pytest.raises(RuntimeError, match=f"process {os.getpid()} .* wait for it"):
        nnunet_command("unetr_nnunet", "crossval", *WORDS, "-o", str(local_study / "study"))


def test_edited_plans_are_noticed(local_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_nnunet_folders(monkeypatch, local_study)
    path = local_study / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json"
    before = path.read_text()
    plans = json.loads(before)
    plans["configurations"]["3d_fullres"]["batch_size"] = 7
    path.write_text(json.dumps(plans))
    try:
        with pytest.raises(RuntimeError, match=r"configurations\.3d_fullres\.batch_size"):
            nnunet_command("unetr_nnunet", "crossval", *WORDS, "-o", str(local_study / "study"))
    finally:
        path.write_text(before)


@pytest.mark.skipif(not has_slurm() and not os.environ.get("CI"), reason="no Slurm: run tests/slurm/start_slurm")
def test_on_slurm_with_a_preempted_and_then_cancelled_training(
    local_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_nnunet_folders(monkeypatch, tmp_path)
    shorten_epochs(monkeypatch, ITERATIONS)
    monkeypatch.setenv("UNETR_NNUNET_CHECKPOINT_MINUTES", "0.02")
    write_blob_dataset(tmp_path / "nnUNet_raw")
    study = tmp_path / "study"
    command = [str(Path(sys.executable).parent / "unetr_nnunet"), "crossval", *WORDS, "-o", str(study)]
    command += ["--executor", "slurm", "--jobs", "2", "--partition", "tests"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    log = study / "logs" / "train" / f"{TRAINERS[0]}__nnUNetPlans__3d_fullres" / "fold_0.log"

    def logged(line: str) -> int:
        """Return how often the training's log has a line; the log is gone while a job begins again."""
        with contextlib.suppress(FileNotFoundError):
            return log.read_text().count(line)
        return 0

    def wait_for(line: str, count: int, seconds: float) -> None:
        until = time.monotonic() + seconds
        while logged(line) < count:
            assert running.poll() is None, running.communicate()[0]
            assert time.monotonic() < until, f"no {line!r} for the {count}. time"
            time.sleep(0.2)

    def job_that_has_a_checkpoint(checkpoints: int) -> str:
        """Wait until the training has written so many in all; return its job."""
        wait_for("checkpoint written within epoch", checkpoints, 900)
        words = ["squeue", "-h", "-t", "running", "-o", "%i %j %k"]
        listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        jobs = [line.split()[0] for line in listed.splitlines() if slurm.prefix(study) in line and TRAINERS[0] in line]
        assert len(jobs) == 1, listed
        return jobs[0]

    try:
        first = job_that_has_a_checkpoint(1)
        urgent = ["sbatch", "--partition", "urgent", "--exclusive", "--output", "/dev/null", "--wrap", "sleep 1"]
        subprocess.run(urgent, check=True, capture_output=True)
        wait_for("continuing this epoch after iteration", 1, 300)
        assert job_that_has_a_checkpoint(logged("checkpoint written within epoch") + 1) == first, "requeued"
        subprocess.run(["scancel", first], check=True)
        printed, _ = running.communicate(timeout=1200)
    finally:
        if running.poll() is None:
            running.kill()
            running.communicate()
    assert running.returncode == 0, printed
    assert "continuing this epoch after iteration" in log.read_text(), "it went on from its checkpoint"
    assert (study / "tables.md").read_text() == (local_study / "study" / "tables.md").read_text()
    assert chosen(tmp_path)["tried"] == chosen(local_study)["tried"]
