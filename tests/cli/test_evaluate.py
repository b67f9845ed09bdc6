import csv
import json
import os
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
    assert "mean of 13 of 13 organs 0.667" in " ".join(out.split())
    assert "Protocol 'nnunet'" in out
    metrics = json.loads((predictions / "metrics.json").read_text())
    foreground = metrics["foreground_mean"]
    assert (foreground["dice"], foreground["n_organs"], foreground["n_cases"]) == (pytest.approx(2 / 3), 13, 2)
    assert metrics["protocol"]["name"] == "nnunet"
    assert metrics["tolerance"]["name"] == "nnunet"
    with (predictions / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 26
    assert rows[0]["case"] == "BTCV_0061"
    assert rows[0]["organ"] == "spleen"
    on_paper = {"dice": 2 / 3, "iou": 0.5, "precision": 1, "recall": 0.5, "truth_voxels": 4, "prediction_voxels": 2}
    assert {name: float(rows[0][name]) for name in on_paper} == pytest.approx(on_paper)
    summary = json.loads((predictions / "summary.json").read_text())
    assert summary["foreground_mean"]["Dice"] == pytest.approx(2 / 3)


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
    assert metrics["protocol"]["name"] == "nnunet+unetr_plus_plus"


def test_all_protocols_side_by_side(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, labels = folders
    for path in labels.iterdir():  # no gallbladder in truth; the prediction has one
        truth = sitk.ReadImage(str(path))
        sitk.WriteImage(sitk.ChangeLabel(truth, {4: 0}), str(path))
    assert main(["evaluate", str(predictions), str(labels), "--protocol", "all", "-o", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    row = next(line for line in captured.out.splitlines() if line.startswith("| gallbladder"))
    assert [cell.strip() for cell in row.split("|")[2:5]] == ["0.000 (2)", "0.000 (2)", "1.000 (2)"]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    stems = ("metrics", "metrics_btcv-challenge", "metrics_synapse-8", "metrics_unetr")
    tables = [stem + end for stem in stems for end in (".csv", ".json")]
    assert names == sorted([*tables, "protocols.md", "summary.json"])
    assert (tmp_path / "out" / "protocols.md").read_text().strip() in captured.out
    metrics = [json.loads((tmp_path / "out" / f"{stem}.json").read_text()) for stem in stems]
    assert [each["protocol"]["name"] for each in metrics] == ["nnunet", "btcv-challenge", "synapse-8", "unetr"]
    assert main(["evaluate", str(predictions), str(labels), "--protocol", "all", "--absent-organs", "unetr"]) == 1
    assert "name that protocol instead of all" in capsys.readouterr().err


def test_a_protocol_that_the_labels_cannot_fill(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    predictions, labels = folders
    (predictions / "dataset.json").write_text(
        json.dumps({"labels": {f"organ_{label}": label for label in range(1, 15)}})
    )
    assert main(["evaluate", str(predictions), str(labels), "--protocol", "synapse-8"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["evaluate", str(predictions), str(labels), "--protocol", "all"]) == 0
    assert capsys.readouterr().err.count("left out: protocol") == 3


def test_other_grids_are_resampled_where_asked_and_tolerance_is_stated(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, labels = folders
    for path in predictions.iterdir():
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "RAS"), str(path))
    assert main(["evaluate", str(predictions), str(labels)]) == 1
    assert "--resample" in capsys.readouterr().err
    assert not (predictions / "summary.json").exists()
    assert main(["evaluate", str(predictions), str(labels), "--resample", "--tolerance", "flare"]) == 0
    captured = capsys.readouterr()
    assert "resampled BTCV_0061: origin" in captured.err
    assert "mean of 13 of 13 organs 0.667" in " ".join(captured.out.split())
    assert "tolerance 'flare'" in captured.out
    assert not (predictions / "summary.json").exists(), "nnU-Net would not resample"


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


def test_output_that_is_a_file(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    predictions, labels = folders
    output = predictions / "BTCV_0061.nii.gz"
    assert main(["evaluate", str(predictions), str(labels), "-o", str(output)]) == 1
    assert capsys.readouterr().err == f"error: -o {output} is a file: give the folder that the files go to\n"


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
        assert "example:" in done.stdout or "Protocol" in done.stdout


def test_files_that_would_end_simpleitk_are_refused_alone(folders: tuple[Path, Path]) -> None:
    """In a fresh process: a name that is not UTF-8, and a pattern of data files that writes beyond buffers."""
    predictions, labels = folders
    whole = (labels / "label0061.nii.gz").read_bytes()
    for folder in folders:
        (folder / os.fsdecode(b"f\xfcr.nii.gz")).write_bytes(whole)
        sitk.WriteImage(sitk.ReadImage(str(labels / "label0061.nii.gz")), str(folder / "pattern.mha"))
    header = (predictions / "pattern.mha").read_bytes()
    (predictions / "pattern.mha").write_bytes(header.replace(b"LOCAL", b"%s%s%s%s%s%s.raw 1 3 1"))
    command = [sys.executable, "-m", "unetr_nnunet.cli.main", "evaluate", str(predictions), str(labels)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "refused f\\udcfcr: " in done.stderr
    assert "has a name that is not UTF-8: rename" in done.stderr
    assert "refused pattern: " in done.stderr
    assert "keeps its voxels in several files" in done.stderr
    assert sorted(json.loads((predictions / "metrics.json").read_text())["cases"]) == ["BTCV_0061", "BTCV_0062"]


def test_grids_less_than_half_a_voxel_apart_are_scored_and_that_is_said(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, labels = folders
    for name, shift_mm in (("BTCV_0061.nii.gz", 0.4), ("BTCV_0062.nii.gz", 0.6)):
        image = sitk.ReadImage(str(predictions / name))
        image.SetOrigin((shift_mm, 0, 0))
        sitk.WriteImage(image, str(predictions / name))
    assert main(["evaluate", str(predictions), str(labels)]) == 1
    said = capsys.readouterr().err
    assert "BTCV_0061.nii.gz lies up to 0.4 mm beside its label, less than half a voxel; taken as the same grid" in said
    assert "refused BTCV_0062: prediction and label lie on different grids: origin" in said
    assert "corners up to 0.6 mm apart" in said
