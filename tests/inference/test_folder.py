import csv
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.inference.small_model import DATASET, plans, write_model
from unetr_nnunet.images.cases import Case, find_cases
from unetr_nnunet.inference.folder import CURRENT_CASE, FailedCases, predict_cases
from unetr_nnunet.inference.model import load_model
from unetr_nnunet.inference.outputs import Outputs
from unetr_nnunet.inference.predictor import Predictor
from unetr_nnunet.inference.run_record import RunRecord
from unetr_nnunet.inference.volumes_table import VolumesTable


def write_ct(path, seed=0):
    image = np.full((20, 40, 40), -1000, np.int16)
    image[:, 8:32, 8:32] = np.random.default_rng(seed).normal(50, 100, (20, 24, 24))
    stored = sitk.GetImageFromArray(image)
    stored.SetSpacing((1.5, 1.5, 3))
    sitk.WriteImage(stored, str(path))


@pytest.fixture
def model(tmp_path):
    return load_model(write_model(tmp_path / "model", mirror_axes=None), None)


def write_cts(folder, names):
    """Write a CT of each name, each with noise of its own; returns the folder."""
    folder.mkdir()
    for seed, name in enumerate(names):
        write_ct(folder / f"{name}.nii.gz", seed)
    return folder


@pytest.fixture
def cts(tmp_path):
    return write_cts(tmp_path / "cts", ["ct0", "ct1", "ct2", "ct3"])


def run(cts, output, *models, report=lambda case, share: None):
    """Predict a folder with a device for each of the models."""
    model = models[0]
    cases, _ = find_cases(cts, len(model.channel_names), "CT" if model.is_ct else None)
    outputs = Outputs(output, model, VolumesTable(output / "volumes.csv"))
    outputs.start(whole_folder=True)
    failed = FailedCases(output / "failed.csv")
    predictors = [Predictor([model]) for model in models]
    predict_cases(cases, predictors, outputs, failed, RunRecord(output / "run.json", {}, {}), report)
    return failed


def masks(folder):
    return {path.name: sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in folder.glob("[!.]*.nii.gz")}


def test_each_case_gets_its_own_mask(cts, model, tmp_path):
    shares = {}
    failed = run(
        cts, tmp_path / "out", model, report=lambda case, share: shares.setdefault(case.name, []).append(share)
    )
    assert failed.rows == []
    found = masks(tmp_path / "out")
    for path in cts.iterdir():
        expected = sitk.GetArrayFromImage(Predictor([model]).predict([sitk.ReadImage(str(path))]))
        np.testing.assert_array_equal(found[path.name], expected)
    assert len(found) == len(shares) == 4
    for values in shares.values():
        assert values == sorted(values)
        assert values[-1] == 1
    assert not (tmp_path / "out" / "failed.csv").exists()


def test_a_broken_case_costs_that_case_only(cts, model, tmp_path):
    whole = (cts / "ct1.nii.gz").read_bytes()
    (cts / "ct1.nii.gz").write_bytes(whole[: len(whole) // 2])
    (cts / "ct3.nii.gz").write_text("no image")
    failed = run(cts, tmp_path / "out", model)
    assert sorted(masks(tmp_path / "out")) == ["ct0.nii.gz", "ct2.nii.gz"]
    assert [row[0] for row in failed.rows] == ["ct1", "ct3"]
    with (tmp_path / "out" / "failed.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case"] for row in rows] == ["ct1", "ct3"]
    assert rows[0]["file"] == str(cts / "ct1.nii.gz")
    assert all(row["reason"] and "\n" not in row["reason"] for row in rows)
    write_ct(cts / "ct1.nii.gz", 1)
    write_ct(cts / "ct3.nii.gz", 3)
    run(cts, tmp_path / "out", model)
    assert not (tmp_path / "out" / "failed.csv").exists()


def test_a_failing_network_or_disk_costs_that_case_only(cts, model, tmp_path, monkeypatch):
    real_segment, real_write = Predictor.segment, Outputs.write

    def segment(self, channels, *arguments):
        if channels[0].GetPixel(20, 20, 10) == broken:
            raise RuntimeError("the network\nfailed")
        return real_segment(self, channels, *arguments)

    def write(self, case, channels, segmentation):
        if case.name == "ct2":
            raise OSError("No space left on device")
        real_write(self, case, channels, segmentation)

    broken = sitk.ReadImage(str(cts / "ct0.nii.gz")).GetPixel(20, 20, 10)
    monkeypatch.setattr(Predictor, "segment", segment)
    monkeypatch.setattr(Outputs, "write", write)
    failed = run(cts, tmp_path / "out", model)
    assert {row[0]: row[2] for row in failed.rows} == {
        "ct0": "the network failed", "ct2": "No space left on device"
    }  # fmt: skip
    assert sorted(masks(tmp_path / "out")) == ["ct1.nii.gz", "ct3.nii.gz"]


def test_a_failed_preview_is_noted_and_the_mask_kept(cts, model, tmp_path):
    def preview(ct, label_maps, picture, labels):
        if picture.stem == "ct1":
            raise RuntimeError("no font")
        picture.touch()

    cases, _ = find_cases(cts, 1, "CT")
    outputs = Outputs(tmp_path / "out", model, VolumesTable(tmp_path / "out" / "volumes.csv"), preview=preview)
    outputs.start(whole_folder=True)
    failed, record = FailedCases(tmp_path / "out" / "failed.csv"), RunRecord(tmp_path / "run.json", {}, {})
    predict_cases(cases, [Predictor([model])], outputs, failed, record, lambda case, share: None)
    assert [(row[0], row[2]) for row in failed.rows] == [("ct1", "the label map is written, but no preview: no font")]
    assert len(masks(tmp_path / "out")) == 4


def test_what_is_logged_knows_its_case_and_is_noted(cts, model, tmp_path):
    image = sitk.ReadImage(str(cts / "ct2.nii.gz"))
    sitk.WriteImage(image + 1100, str(cts / "ct2.nii.gz"))  # as a file whose rescale intercept was lost
    logged = []

    class Handler(logging.Handler):
        def emit(self, record):
            logged.append((CURRENT_CASE.get(), record.getMessage()))

    handler = Handler(logging.WARNING)
    logging.getLogger("unetr_nnunet").addHandler(handler)
    try:
        run(cts, tmp_path / "out", model)
    finally:
        logging.getLogger("unetr_nnunet").removeHandler(handler)
    ((case, message),) = logged
    assert case == "ct2"
    assert message.endswith(" do not look like Hounsfield units; the segmentation is probably meaningless")
    assert message in (tmp_path / "out" / "notes.csv").read_text()


def test_all_that_is_older_of_a_failed_case_goes(cts, model, tmp_path):
    run(cts, tmp_path / "out", model)
    for ending in (".npz", ".pkl", ".png", ".dcm"):
        (tmp_path / "out" / f"ct1{ending}").touch()
        (tmp_path / "out" / f"ct2{ending}").touch()
    (cts / "ct1.nii.gz").write_text("no image")
    run(cts, tmp_path / "out", model)
    assert list((tmp_path / "out").glob("ct1*")) == []
    assert len(list((tmp_path / "out").glob("ct2*"))) == 5
    rows = (tmp_path / "out" / "volumes.csv").read_text().splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == {"ct0", "ct2", "ct3"}
    assert sorted(masks(tmp_path / "out")) == ["ct0.nii.gz", "ct2.nii.gz", "ct3.nii.gz"]


def test_failures_are_kept_in_mind_where_they_cannot_be_written(cts, model, tmp_path, monkeypatch):
    (cts / "ct1.nii.gz").write_text("no image")
    real, calls = FailedCases.write, []

    def write(self):
        calls.append(len(self.rows))
        if self.rows:
            raise OSError("No space left on device")
        real(self)

    monkeypatch.setattr(FailedCases, "write", write)
    assert [row[0] for row in run(cts, tmp_path / "out", model).rows] == ["ct1"]
    assert len(masks(tmp_path / "out")) == 3
    assert calls == [0, 1]


def test_devices_share_the_cases(cts, model, tmp_path, monkeypatch):
    alone = run(cts, tmp_path / "alone", model)
    threads, real = set(), Predictor.segment
    barrier = threading.Barrier(2, timeout=60)

    def segment(self, channels, *arguments):
        if threading.get_ident() not in threads:
            threads.add(threading.get_ident())
            barrier.wait()  # passes only if two run at once
        return real(self, channels, *arguments)

    monkeypatch.setattr(Predictor, "segment", segment)
    failed = run(cts, tmp_path / "both", model, load_model(tmp_path / "model", None))
    assert alone.rows == failed.rows == []
    assert len(threads) == 2
    expected, found = masks(tmp_path / "alone"), masks(tmp_path / "both")
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    assert (tmp_path / "both" / "volumes.csv").read_text() == (tmp_path / "alone" / "volumes.csv").read_text()


def test_an_interruption_stops_the_devices(cts, model, tmp_path):
    def report(case, share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(cts, tmp_path / "out", model, report=report)
    assert masks(tmp_path / "out") == {}


KILLED = """
import sys
from pathlib import Path
from tests.inference.test_folder import run
from unetr_nnunet.inference.model import load_model
run(Path(sys.argv[1]), Path(sys.argv[2]), load_model(Path(sys.argv[3]), None))
"""


@pytest.mark.slow
def test_killed_at_any_moment_outputs_are_whole_or_absent(cts, model, tmp_path):
    for number in range(4, 12):
        write_ct(cts / f"ct{number}.nii.gz", number)
    output = tmp_path / "out"
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(cts), str(output), str(tmp_path / "model")]
    for masks_before_the_kill in (0, 1, 3):
        for path in output.glob("*") if output.exists() else ():
            path.unlink()
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        while process.poll() is None and len(list(output.glob("[!.]*.nii.gz"))) <= masks_before_the_kill:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        for mask in masks(output).values():
            assert mask.shape == (20, 40, 40)
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    assert len(masks(output)) == 12
    assert list(output.glob(".tmp-*")) == []


@pytest.mark.slow
def test_two_hundred_cases_keep_memory_flat(model, tmp_path):
    import psutil

    folder = write_cts(tmp_path / "many", [f"ct{number:03d}" for number in range(200)])
    memory = []

    def report(case, share):
        if share == 1:
            memory.append(psutil.Process().memory_info().rss)

    assert run(folder, tmp_path / "out", model, report=report).rows == []
    assert len(masks(tmp_path / "out")) == 200
    assert np.median(memory[-30:]) - np.median(memory[30:60]) < 30 * 2**20


def test_failed_cases_without_files(tmp_path):
    failed = FailedCases(tmp_path / "failed.csv")
    failed.add(Case("lost", ((), ()), False), ValueError())
    assert (tmp_path / "failed.csv").read_text().splitlines() == ["case,file,reason", "lost,,ValueError"]


def test_several_channels(tmp_path):
    plan = plans(normalization_schemes=["ZScoreNormalization", "CTNormalization"], use_mask_for_norm=[False, False])
    dataset = DATASET | {"channel_names": {"0": "MR", "1": "CT"}}
    model = load_model(write_model(tmp_path / "model", plan, dataset), None)
    folder = write_cts(tmp_path / "in", ["a_0000", "a_0001", "b_0000"])
    failed = run(folder, tmp_path / "out", model)
    assert sorted(masks(tmp_path / "out")) == ["a.nii.gz"]
    assert [row[0] for row in failed.rows] == ["b"]
