import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from unetr_nnunet.cli import main as cli
from unetr_nnunet.experiments import demo
from unetr_nnunet.nnunet.folders import DatasetFolders


def write(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([2.0, 2.0, 3.0, 1.0])), path)


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A demo folder as the workflow leaves it; running the workflow does nothing."""
    label = np.zeros((12, 12, 6), np.uint8)
    label[2:8, 2:8, 1:5] = 6
    predicted = np.zeros_like(label)
    predicted[2:8, 2:8, 1:3] = 6
    write(tmp_path / "predictions" / "BTCV_0061.nii.gz", predicted)
    write(tmp_path / "download" / "Testing_labels" / "label0061.nii.gz", label)
    data = DatasetFolders(*(tmp_path / kind / "Dataset017_BTCV" for kind in ("raw", "preprocessed", "results")))
    write(data.raw / "imagesTs" / "BTCV_0061_0000.nii.gz", (label * 20).astype(np.int16))
    monkeypatch.setattr(demo, "run_demo", lambda folder: data)
    return tmp_path


def test_prints_the_table_and_draws_the_picture(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", str(finished)]) == 0
    printed = capsys.readouterr().out
    liver = next(line for line in printed.splitlines() if line.startswith("liver"))
    assert "0.667" in liver  # 2 * 72 / (144 + 72)
    assert f"picture of BTCV_0061: {finished / 'demo.png'}" in printed
    assert (finished / "demo.png").stat().st_size > 1000
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["cases"]["BTCV_0061"]["liver"]["dice"] == pytest.approx(2 / 3)
    assert (finished / "metrics.csv").is_file()
    assert f"report, for a browser: {finished / 'test_report.html'}" in printed
    page = (finished / "test_report.html").read_text()
    assert "<h1>The demo on the phantom</h1>" in page
    assert "axial slice" in page


def test_a_failed_step_is_told_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from unetr_nnunet.experiments.crossval import StudyFailedError

    def fail(folder: Path) -> None:
        raise StudyFailedError("1 step(s) failed:\n  preprocess: no space left")

    monkeypatch.setattr(demo, "run_demo", fail)
    assert cli.main(["demo", str(tmp_path)]) == 1
    assert "no space left" in capsys.readouterr().err
