import re
from pathlib import Path

import pytest

from tests.evaluation.nnunet_tree import MODEL, prediction, truth, write_labels, write_mask, write_tree
from unetr_nnunet.cli.main import main


def test_a_cross_validation_from_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_tree(tmp_path)
    output = tmp_path / "out" / "report.html"
    assert main(["report", str(folder), "-o", str(output), "--title", "A <title>", "--workers", "1"]) == 0
    assert f"Written: {output}" in capsys.readouterr().out
    page = output.read_text()
    assert "<h1>A &lt;title&gt;</h1>" in page
    assert re.search(r"reaches a mean Dice of 0\.\d{3}", page)
    assert "5 cases" in page
    assert "axial slice" in page
    assert f"nnUNet_results/Dataset917_Blobs/{MODEL}" in page


def test_two_folders_of_masks_under_own_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case in range(6):
        write_mask(tmp_path / "labels" / f"case_{case}.nii.gz", truth(case))
        for name, wrong in (("good", 0.1), ("bad", 0.6)):
            write_mask(tmp_path / name / f"case_{case}.nii.gz", prediction(case, wrong))
    for name in ("good", "bad"):
        write_labels(tmp_path / name)
    words = ["report", str(tmp_path / "bad"), str(tmp_path / "good"), str(tmp_path / "gone")]
    options = ["--labels", str(tmp_path / "labels"), "-o", str(tmp_path / "r.html"), "--workers", "1"]
    assert main([*words, *options, "--names", "worse", "better", "lost"]) == 1
    assert "lost could not be read" in capsys.readouterr().err
    page = (tmp_path / "r.html").read_text()
    assert "better has the highest mean Dice" in page
    assert "it is better than worse by +0." in page
    assert "lost could not be read" in page


def test_a_model_on_another_grid_leaves_the_others_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case in range(6):
        write_mask(tmp_path / "labels" / f"case_{case}.nii.gz", truth(case))
        for name, wrong in (("good", 0.1), ("bad", 0.6)):
            write_mask(tmp_path / name / f"case_{case}.nii.gz", prediction(case, wrong))
        write_mask(tmp_path / "other" / f"case_{case}.nii.gz", prediction(case)[:, :6])
    for name in ("good", "bad", "other"):
        write_labels(tmp_path / name)
    words = ["report", *(str(tmp_path / name) for name in ("other", "bad", "good"))]
    tables = ["--tables", str(tmp_path / "t.md"), "--worst", "0"]
    assert main([*words, "--labels", str(tmp_path / "labels"), "-o", str(tmp_path / "r.html"), *tables]) == 1
    why = f"{tmp_path / 'other'}: no case could be scored; the first reason, of case_0: "
    assert f"{tmp_path / 'other'} could not be read: {why}" in capsys.readouterr().err
    page = (tmp_path / "r.html").read_text()
    assert "good has the highest mean Dice" in page
    assert "no case could be scored" in page
    assert "of 2 models on 6 cases" in (tmp_path / "t.md").read_text()


def test_tables_for_a_paper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_tree(tmp_path)
    files = [str(tmp_path / "out" / name) for name in ("r.html", "t.md", "t.tex")]
    words = ["report", str(folder), "-o", files[0], "--worst", "0", "--workers", "1", "--tables"]
    assert main([*words, *files[1:]]) == 0
    assert f"Written: {', '.join(files)}" in capsys.readouterr().out
    assert Path(files[1]).read_text().startswith("Dice of ")
    assert r"\toprule" in Path(files[2]).read_text()
    assert main([*words, str(tmp_path / "t.docx")]) == 1
    assert "call the file .md for Markdown, or .tex for LaTeX" in capsys.readouterr().err


def test_wrong_usage_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    output = ["-o", str(tmp_path / "r.html")]
    assert main(["report", str(tmp_path / "empty"), "--names", "a", "b", *output]) == 1
    assert main(["report", str(tmp_path / "empty"), "--images", str(tmp_path / "gone"), *output]) == 1
    assert main(["report", str(tmp_path / "empty"), "-o", str(tmp_path)]) == 1
    assert main(["report", str(tmp_path / "empty"), *output]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "--names has 2 for 1 model(s): give one for each MODEL" in lines[0]
    assert "--images" in lines[1]
    assert lines[1].endswith("is not a folder")
    assert "is a folder: name the file, such as" in lines[2]
    assert "no model to report on" in lines[-1]
    assert not (tmp_path / "r.html").exists()


def test_the_viewer_follows_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tree(tmp_path)
    images = tmp_path / "cts"
    images.mkdir()
    ran = []
    monkeypatch.setattr("subprocess.run", lambda words, check: ran.append(words))
    output = ["-o", str(tmp_path / "r.html"), "--workers", "1", "--worst", "0"]
    assert main(["report", str(folder), *output, "--viewer", "--images", str(images)]) == 0
    (words,) = ran
    assert words[3:5] == ["view", str(images)]
    masks = words[words.index("--masks") + 1 : words.index("--labels")]
    assert masks == [str(path) for path in sorted(folder.glob("fold_*/validation"))]
    assert (tmp_path / "r.html").is_file()
    assert main(["report", str(folder), *output, "--viewer"]) == 1  # no CTs
    assert len(ran) == 1
