import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from unetr_nnunet.cli.main import main


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two BTCV cases under the two naming schemes; half of each organ's voxels are found."""
    predictions, labels = tmp_path / "predictions", tmp_path / "labels"
    truth = np.repeat(np.arange(14, dtype=np.uint8), 4).reshape(1, 14, 4)
    prediction = truth.copy()
    prediction[..., 2:] = 0
    for number in ("0061", "0062"):
        for folder, name, array in ((predictions, "BTCV_", prediction), (labels, "label", truth)):
            folder.mkdir(exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / f"{name}{number}.nii.gz"))
    return predictions, labels


def test_scores_btcv_names_and_writes_beside_the_predictions(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, labels = folders
    assert main(["evaluate", str(predictions), str(labels)]) == 0
    out = capsys.readouterr().out
    assert "mean of 13 of 13 organs 0.6667" in " ".join(out.split())
    assert "Rule 'nnunet'" in out
    metrics = json.loads((predictions / "metrics.json").read_text())
    assert metrics["foreground_mean"] == {"dice": pytest.approx(2 / 3), "n_organs": 13, "n_cases": 2}
    with (predictions / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 26
    assert rows[0] == {
        "case": "BTCV_0061",
        "organ": "spleen",
        "dice": repr(2 / 3),
        "truth_voxels": "4",
        "prediction_voxels": "2",
    }


def test_missing_extra_and_refused_cases_give_exit_code_1_and_the_rest_is_written(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, labels = folders
    sitk.WriteImage(sitk.ReadImage(str(labels / "label0061.nii.gz")), str(labels / "label0063.nii.gz"))
    sitk.WriteImage(sitk.ReadImage(str(labels / "label0061.nii.gz")), str(predictions / "BTCV_0064.nii.gz"))
    (predictions / "BTCV_0062.nii.gz").write_bytes(b"")
    output = tmp_path / "output"
    assert main(["evaluate", str(predictions), str(labels), "-o", str(output), "--workers", "2"]) == 1
    captured = capsys.readouterr()
    assert "refused BTCV_0062: " in captured.err
    assert "no prediction for the label label0063" in captured.err
    assert "no label for the prediction BTCV_0064" in captured.err
    metrics = json.loads((output / "metrics.json").read_text())
    assert list(metrics["cases"]) == ["BTCV_0061"]
    assert list(metrics["refused"]) == ["BTCV_0062"]
    assert not (predictions / "metrics.json").exists()


def test_the_rule_can_be_chosen(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    predictions, labels = folders
    (predictions / "dataset.json").write_text(
        json.dumps({"labels": {f"organ_{label}": label for label in range(1, 15)}})
    )
    assert main(["evaluate", str(predictions), str(labels), "--absent-organs", "unetr_plus_plus"]) == 0
    assert "mean of 14 of 14 organs" in capsys.readouterr().out
    metrics = json.loads((predictions / "metrics.json").read_text())
    assert metrics["organs"]["organ_14"]["mean"] == 1
    assert metrics["rule"]["name"] == "unetr_plus_plus"


def test_nothing_to_compare_is_one_readable_line(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["evaluate", str(folders[0]), str(tmp_path / "empty")]) == 1
    assert main(["evaluate", str(folders[0]), str(folders[0])]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "holds no label map" in lines[0]
    assert "same folder" in lines[1]


def test_help_and_work_without_torch(folders: tuple[Path, Path]) -> None:
    script = (
        "import sys\n"
        "from unetr_nnunet.cli.main import main\n"
        "try:\n"
        "    code = main(sys.argv[1:])\n"
        "except SystemExit as stop:\n"
        "    code = stop.code\n"
        "heavy = {'torch', 'nnunetv2', *(['SimpleITK', 'numpy'] if '--help' in sys.argv else [])} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)\n"
    )
    for words in (["evaluate", "--help"], ["evaluate", *map(str, folders)]):
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "example:" in done.stdout or "Rule" in done.stdout
