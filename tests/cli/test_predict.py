import gzip
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from tests.images.scans import write_series
from tests.inference.small_model import write_model
from tests.inference.test_folder import masks, write_ct, write_cts
from unetr_nnunet.cli.main import main
from unetr_nnunet.folder_lock import folder_lock
from unetr_nnunet.inference.folder import CURRENT_CASE
from unetr_nnunet.inference.model import load_model
from unetr_nnunet.inference.predictor import Predictor
from unetr_nnunet.nnunet.label_learning import learn


@pytest.fixture
def model(tmp_path):
    name = tmp_path / "results" / "Dataset999_Toy" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    return write_model(name, mirror_axes=None, folds=2)


@pytest.fixture
def cts(tmp_path):
    return write_cts(tmp_path / "cts", ["case0_0000", "case1_0000", "case2_0000"])


def run(*words):
    return main(["predict", *map(str, words)])


def test_a_folder_in_a_fresh_process(cts, model, tmp_path):
    command = [sys.executable, "-m", "unetr_nnunet.cli.main", "predict", "-i", cts, "-o", tmp_path / "out", "-m", model]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert set(masks(tmp_path / "out")) == {"case0.nii.gz", "case1.nii.gz", "case2.nii.gz"}
    assert "nnUNetTrainer, 2 fold(s), arrays in RAS" in done.stderr
    assert f"3 of 3 cases written to {tmp_path / 'out'}" in done.stdout
    assert "3/3 cases" in done.stderr


def test_by_data_set_and_folds_and_zip(cts, model, tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    assert run("-i", cts, "-o", tmp_path / "a", "-d", 999, "-c", "3d_fullres", "-f", 1) == 0
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        for path in model.rglob("*"):
            archive.write(path, path.relative_to(tmp_path / "results"))
    assert run("-i", cts, "-o", tmp_path / "b", "-m", tmp_path / "model.zip", "-f", 1) == 0
    assert run("-i", cts, "-o", tmp_path / "c", "-m", model, "-f", 0) == 0
    of_data_set, of_zip, other_fold = (masks(tmp_path / name) for name in "abc")
    for name, mask in of_data_set.items():
        np.testing.assert_array_equal(mask, of_zip[name])
        assert (mask != other_fold[name]).any()


def test_one_broken_file_costs_exit_code_1(cts, model, tmp_path, capsys):
    (cts / "broken.nii.gz").write_bytes(b"\x1f\x8b no gzip")
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model) == 1
    assert len(masks(tmp_path / "out")) == 3
    printed = capsys.readouterr()
    assert "failed broken: " in printed.err
    assert "3 of 4 cases written" in printed.out
    assert (tmp_path / "out" / "failed.csv").read_text().startswith("case,file,reason\nbroken,")


def test_odd_headers_are_mended_and_noted_and_the_mask_keeps_them(cts, model, tmp_path, capsys):
    """A direction rounded to two decimals; and one that is not told."""
    image = sitk.ReadImage(str(cts / "case0_0000.nii.gz"))
    array = sitk.GetArrayFromImage(image)
    turn = Rotation.from_euler("xyz", (7, -12, 20), degrees=True).as_matrix().round(2)
    affine = np.eye(4)
    affine[:3, :3] = turn * image.GetSpacing()
    rounded = nibabel.Nifti1Image(array.T, affine)
    nibabel.save(rounded, cts / "rounded.nii.gz")
    untold = nibabel.Nifti1Image(array.T, None)
    untold.header.set_zooms(image.GetSpacing())
    nibabel.save(untold, cts / "untold.nii.gz")
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model) == 1
    assert "untold.nii.gz does not say how it is oriented" in (tmp_path / "out" / "failed.csv").read_text()
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model, "--assume-orientation", "lps", "--resume") == 0
    assert np.allclose(nibabel.load(tmp_path / "out" / "rounded.nii.gz").affine, affine, atol=1e-6)
    notes = (tmp_path / "out" / "notes.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in notes] == ["case", "rounded", "untold"]
    assert "not exactly at right angles" in notes[1]
    assert "LPS is assumed" in notes[2]
    found = masks(tmp_path / "out")
    assert (found["untold.nii.gz"] == found["case0.nii.gz"]).mean() > 0.99
    assert "rounded.nii.gz: its axes are not exactly at right angles" in capsys.readouterr().err


def test_names_that_are_not_utf8_or_too_long_cost_their_case_only(cts, model, tmp_path):
    """In a fresh process, whose stdout is strict."""
    whole = (cts / "case0_0000.nii.gz").read_bytes()
    (cts / os.fsdecode(b"f\xfcr.nii.gz")).write_bytes(whole)
    (cts / ("b" * 251 + ".nii")).write_bytes(gzip.decompress(whole))
    (cts / ("c" * 248 + ".nii.gz")).write_bytes(whole)
    command = [sys.executable, "-m", "unetr_nnunet.cli.main", "predict", "-i", cts, "-o", tmp_path / "out", "-m", model]
    done = subprocess.run([*map(str, command), "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "4 of 6 cases written" in done.stdout
    names = {"case0.nii.gz", "case1.nii.gz", "case2.nii.gz", "c" * 248 + ".nii.gz"}
    assert set(masks(tmp_path / "out")) == names
    long, not_utf8 = (tmp_path / "out" / "failed.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert long.startswith("b" * 251)
    assert "longer than 255 bytes: shorten the case's name" in long
    assert not_utf8.startswith("f\\udcfcr,")


def test_resume_leaves_done_cases_alone(cts, model, tmp_path, capsys):
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model) == 0
    table = (tmp_path / "out" / "volumes.csv").read_text()
    (tmp_path / "out" / "case1.nii.gz").unlink()
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("case*.nii.gz")}
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model, "--resume") == 0
    assert "2 of 3 cases are already done" in capsys.readouterr().err
    assert len(masks(tmp_path / "out")) == 3
    for name, stamp in stamps.items():
        assert (tmp_path / "out" / name).stat().st_mtime_ns == stamp
    assert (tmp_path / "out" / "volumes.csv").read_text() == table


def test_resume_makes_what_is_missing_beside_a_mask(cts, model, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("no font")

    with monkeypatch.context() as patch:
        patch.setattr("unetr_nnunet.inference.prediction.draw_overlay", fail)
        assert run("-i", cts, "-o", tmp_path / "out", "-m", model, "--preview") == 1
    assert len(masks(tmp_path / "out")) == 3
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model, "--preview", "--resume") == 0
    assert len(list((tmp_path / "out").glob("case?.png"))) == 3
    assert not (tmp_path / "out" / "failed.csv").exists()
    assert "already done" not in capsys.readouterr().err


def test_resume_with_other_models_is_refused(cts, model, tmp_path, capsys):
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model, "-f", 0) == 0
    before = masks(tmp_path / "out")
    others = (
        ["-f", 1],
        ["-f", 1, "--part", "1/2"],
        [],
        ["-f", 0, "--fast"],
        ["-f", 0, "--exact"],
        ["-f", 0, "--disable-tta"],
    )
    for words in (words if "--part" in words else [*words, "--resume"] for words in others):
        assert run("-i", cts, "-o", tmp_path / "out", "-m", model, *words) == 1
        assert "holds label maps of another model, other folds of it or other options" in capsys.readouterr().err
    after = masks(tmp_path / "out")
    for name, mask in before.items():
        np.testing.assert_array_equal(mask, after[name])
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model, "-f", 1) == 0
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model, "-f", 1, "--resume") == 0
    assert "3 of 3 cases are already done" in capsys.readouterr().err


def test_resume_after_a_step_with_another_model_in_between_is_refused(cts, model, tmp_path, capsys):
    other = write_model(tmp_path / "other", mirror_axes=None, seed=9)
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model) == 0
    before = masks(tmp_path / "out")
    assert run("-i", cts / "case0_0000.nii.gz", "-o", tmp_path / "out", "-m", other) == 1
    message = "holds label maps of another model or other options for cases that are not in the input, such as case1"
    assert message in capsys.readouterr().err
    for name, mask in masks(tmp_path / "out").items():
        np.testing.assert_array_equal(mask, before[name])
    assert run("-i", cts, "-o", tmp_path / "out", "-m", other) == 0
    assert "removing 3 label map(s) of another model or other options" in capsys.readouterr().err


def test_resume_predicts_images_that_have_changed_again(cts, model, tmp_path, capsys):
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model) == 0
    before = masks(tmp_path / "out")
    write_ct(cts / "case1_0000.nii.gz", seed=77)
    (cts / "case2_0000.nii.gz").rename(cts / "case2.nii.gz")
    write_ct(cts / "case2_0000.nii.gz", seed=78)  # now case2 is another image
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model, "--resume") == 0
    assert "case1: its image is not the one that its label map was made from" in capsys.readouterr().err
    after = masks(tmp_path / "out")
    np.testing.assert_array_equal(after["case0.nii.gz"], before["case0.nii.gz"])
    assert (after["case1.nii.gz"] != before["case1.nii.gz"]).any()
    for name, stem in (("case2.nii.gz", "case2"), ("case2_0000.nii.gz", "case2_0000")):
        image = sitk.ReadImage(str(cts / name))
        expected = Predictor([load_model(model)]).predict([image])
        np.testing.assert_array_equal(after[f"{stem}.nii.gz"], sitk.GetArrayFromImage(expected))


def test_resume_with_other_plans_is_refused(cts, model, tmp_path, capsys):
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model) == 0
    plans = json.loads((model / "plans.json").read_text())
    plans["foreground_intensity_properties_per_channel"]["0"]["mean"] += 50
    (model / "plans.json").write_text(json.dumps(plans))
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model, "--resume") == 1
    assert "holds label maps of another model, other folds of it or other options" in capsys.readouterr().err


def test_an_assumed_orientation_that_changes_is_noticed(cts, model, tmp_path):
    image = sitk.ReadImage(str(cts / "case0_0000.nii.gz"))
    untold = nibabel.Nifti1Image(sitk.GetArrayFromImage(image).T, None)
    untold.header.set_zooms(image.GetSpacing())
    nibabel.save(untold, cts / "case0_0000.nii.gz")
    options = ["-i", cts, "-o", tmp_path / "out", "-m", model, "--resume"]
    assert run(*options, "--assume-orientation", "RAS") == 0
    stamps = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in ("case0.nii.gz", "case1.nii.gz")}
    assert run(*options, "--assume-orientation", "LPI") == 0
    changed = [(tmp_path / "out" / name).stat().st_mtime_ns != stamp for name, stamp in stamps.items()]
    assert changed == [True, False]


def test_models_and_folds_given_twice_are_all_used(cts, model, tmp_path):
    second = write_model(tmp_path / "second", mirror_axes=None, seed=5)
    image = cts / "case0_0000.nii.gz"
    assert run("-i", image, "-o", tmp_path / "a", "-m", model, "-m", second, "-f", 0) == 0
    assert run("-i", image, "-o", tmp_path / "b", "-m", model, second, "-f", 0) == 0
    assert run("-i", image, "-o", tmp_path / "c", "-m", model, "-f", 1, "-f", 0) == 0
    assert run("-i", image, "-o", tmp_path / "d", "-m", model) == 0
    found = {name: masks(tmp_path / name)["case0.nii.gz"] for name in "abcd"}
    np.testing.assert_array_equal(found["a"], found["b"])
    np.testing.assert_array_equal(found["c"], found["d"])
    assert (found["a"] != found["d"]).any()


def test_a_full_disk_for_probabilities_keeps_the_label_maps(cts, model, tmp_path, monkeypatch, capsys):
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model) == 0

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("unetr_nnunet.inference.outputs.write_probabilities", fail)
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model, "--resume", "--save-probabilities") == 1
    assert "the label map is written, but no probabilities: No space left on device" in capsys.readouterr().err
    assert len(masks(tmp_path / "out")) == 3


def test_a_whole_run_takes_over_the_tables_of_parts(cts, model, tmp_path):
    (cts / "case1_0000.nii.gz").rename(tmp_path / "kept.nii.gz")
    (cts / "case1_0000.nii.gz").write_text("no image")
    assert [run("-i", cts, "-o", tmp_path / "out", "-m", model, "--part", f"{part}/2") for part in (1, 2)] == [0, 1]
    (tmp_path / "kept.nii.gz").rename(cts / "case1_0000.nii.gz")
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model, "--resume") == 0
    rows = (tmp_path / "out" / "volumes.csv").read_text().splitlines()[1:]
    assert sorted({row.split(",")[0] for row in rows}) == ["case0", "case1", "case2"]
    assert [path.name for path in (tmp_path / "out").glob("*_part*.csv")] == []


def test_stderr_may_be_closed(cts, model, tmp_path):
    words = ["predict", "-i", cts / "case0_0000.nii.gz", "-o", tmp_path / "out", "-m", model]
    command = f"exec {sys.executable} -m unetr_nnunet.cli.main {' '.join(map(str, words))} 2>&-"
    assert subprocess.run(["sh", "-c", command], capture_output=True, check=False).returncode == 0
    assert len(masks(tmp_path / "out")) == 1


def test_parts_together_are_the_whole(cts, model, tmp_path):
    for part in ("1/2", "2/2"):
        assert run("-i", cts, "-o", tmp_path / "out", "-m", model, "--part", part) == 0
    assert len(masks(tmp_path / "out")) == 3
    tables = [(tmp_path / "out" / f"volumes_part{part}of2.csv").read_text() for part in (1, 2)]
    assert [{line.split(",")[0] for line in table.splitlines()[1:]} for table in tables] == [
        {"case0", "case2"},
        {"case1"},
    ]


def test_the_last_line_says_which_masks_to_look_at(cts, model, tmp_path, capsys):
    """Random networks find organs at every border."""
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("3 of 3 cases to look at: case0 (")
    assert "no label_statistics.json in the model folder" in err
    rows = [line.split(",") for line in (tmp_path / "out" / "quality.csv").read_text().splitlines()]
    assert rows[0] == ["case", "organ", "parts", "at_border", "probability", "fold_dice", "flags"]
    assert {row[0] for row in rows[1:]} == {"case0", "case1", "case2"}


def test_a_damaged_file_of_the_training_labels_costs_the_comparison_only(cts, model, tmp_path, capsys):
    (model / "label_statistics.json").write_text("{")
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model) == 0
    assert "label_statistics.json is damaged" in capsys.readouterr().err
    (model / "label_statistics.json").write_text(learn({}).model_dump_json())
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model) == 0
    assert "label_statistics" not in capsys.readouterr().err
    recorded = json.loads((tmp_path / "out" / "run.json").read_text())["runs"][-1]["models"][0]["sha256"]
    assert str(model / "label_statistics.json") in recorded


def test_costs_are_written_for_the_report(cts, model, tmp_path):
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model, "--device", "cpu") == 0
    costs = json.loads((tmp_path / "out" / "costs.json").read_text())
    assert costs["seconds_per_case"] > 0
    assert 0.05 < costs["peak_memory_gib"] < 100
    assert costs["device"] == "cpu"


def test_the_run_is_recorded(cts, model, tmp_path):
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model, "-f", 1, "--disable-tta") == 0
    (tmp_path / "out" / "case1.nii.gz").unlink()
    (cts / "case1_0000.nii.gz").write_text("no image")
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model, "-f", 1, "--disable-tta", "--resume") == 1
    first, second = json.loads((tmp_path / "out" / "run.json").read_text())["runs"]
    checkpoint = model / "fold_1" / "checkpoint_final.pth"
    hashes = first["models"][0]["sha256"]
    assert hashes[str(checkpoint)] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert {Path(path).name for path in hashes} == {"plans.json", "dataset.json", "checkpoint_final.pth"}
    assert first["settings"]["devices"] == ["cpu"] or first["settings"]["devices"][0].startswith("cuda")
    assert first["settings"]["mirroring"] is False
    assert [(entry["case"], entry["files"]) for entry in first["cases"]] == [
        (f"case{number}", [f"case{number}.nii.gz"]) for number in range(3)
    ]
    assert all(entry["seconds"] > 0 and 0.05 < entry["peak_memory_gib_so_far"] < 100 for entry in first["cases"])
    assert (first["failed"], second["cases"]) == ([], [])
    assert [entry["case"] for entry in second["failed"]] == ["case1"]


def test_a_case_that_killed_its_run_comes_last(cts, model, tmp_path, capsys):
    killed = """
import os, sys
from unetr_nnunet.cli.main import main
from unetr_nnunet.inference.predictor import Predictor
from unetr_nnunet.nnunet.label_learning import learn
Predictor.segment = lambda *_: os.kill(os.getpid(), 9)
main(sys.argv[1:])
"""
    words = list(map(str, ["predict", "-i", cts, "-o", tmp_path / "out", "-m", model]))
    assert subprocess.run([sys.executable, "-c", killed, *words], check=False).returncode == -9
    real, order = Predictor.segment, []

    def segment(self, *arguments):
        order.append(CURRENT_CASE.get())
        return real(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "segment", segment)
        assert main([*words, "--resume"]) == 0
    assert order == ["case1", "case2", "case0"]
    assert "case0: an earlier run was killed while it predicted this case, so it comes last" in capsys.readouterr().err
    assert list((tmp_path / "out").glob(".started-*")) == []


def test_a_case_that_fails_leaves_no_rows_in_tables_of_other_parts(cts, model, tmp_path):
    """Rows of an earlier, whole run would read as those of this one."""
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model) == 0
    (cts / "case2_0000.nii.gz").write_text("no image")
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model, "--part", "1/2") == 1
    tables = [(tmp_path / "out" / f"volumes{part}.csv").read_text().splitlines()[1:] for part in ("", "_part1of2")]
    assert [{line.split(",")[0] for line in table} for table in tables] == [{"case1"}, {"case0"}]


def test_two_runs_into_one_folder_are_refused(cts, model, tmp_path, capsys):
    with folder_lock(tmp_path / "out"):
        assert run("-i", cts, "-o", tmp_path / "out", "-m", model) == 1
    assert f"{tmp_path / 'out'} is being written by process {os.getpid()}" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["0/2", "3/2", "2", "a/b"])
def test_wrong_part(part, capsys):
    with pytest.raises(SystemExit):
        run("-i", "x", "-o", "y", "-m", "z", "--part", part)
    assert "is no share such as 2/8" in capsys.readouterr().err


def test_preview(cts, model, tmp_path):
    assert run("-i", cts / "case0_0000.nii.gz", "-o", tmp_path / "out", "-m", model, "--preview") == 0
    assert (tmp_path / "out" / "case0.png").read_bytes().startswith(b"\x89PNG")


def test_several_models_and_probabilities(cts, model, tmp_path):
    second = write_model(tmp_path / "second", mirror_axes=None, seed=5)
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model, second, "--save-probabilities") == 0
    probabilities = np.load(tmp_path / "out" / "case0.npz")["probabilities"].astype(np.float32)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=5e-3)


def test_inputs_are_not_overwritten(cts, model, capsys):
    before = {path.name: path.read_bytes() for path in cts.iterdir()}
    assert run("-i", cts, "-o", cts, "-m", model) == 1
    assert "holds inputs, which could be overwritten" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in cts.iterdir()} == before


@pytest.mark.parametrize("kind", ["tree of DICOM", "links"])
def test_an_output_folder_that_is_the_input_is_refused(kind, cts, model, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    if kind == "links":
        for path in cts.iterdir():
            (folder / path.name).symlink_to(path)
    else:
        write_series(folder / "p1")
    (tmp_path / "again").symlink_to(folder)
    for output in (folder, tmp_path / "again"):
        assert run("-i", folder, "-o", output, "-m", model) == 1
        assert "holds inputs, which could be overwritten: choose another" in capsys.readouterr().err
    assert not (folder / "dataset.json").exists()
    if kind == "links":
        assert run("-i", folder / "case0_0000.nii.gz", "-o", folder, "-m", model) == 1


def test_another_data_sets_folder_is_refused(cts, model, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset.json").write_text('{"mine": 1}')
    assert run("-i", cts, "-o", tmp_path / "out", "-m", model) == 1
    assert "is of another data set or model" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"dataset.json", ".lock"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-i", "CTS", "-o", "OUT"], "no model: give its folder or zip with -m"),
        (["-i", "CTS", "-o", "OUT", "-m", "EMPTY"], "is no model folder of nnU-Net"),
        (["-i", "CTS", "-o", "OUT", "-m", "MODEL", "-d", "17"], "give the model either with -m, or with -d and -c"),
        (["-i", "CTS", "-o", "/proc/out", "-m", "MODEL"], "/proc/out cannot be made"),
        (["-i", "EMPTY", "-o", "OUT", "-m", "MODEL"], "holds no image"),
        (["-i", "NOWHERE", "-o", "OUT", "-m", "MODEL"], "does not exist"),
        (["-i", "CTS", "-o", "OUT", "-m", "MODEL", "-f", "7"], "has no fold 7"),
        (["-i", "CTS", "-o", "OUT", "-m", "MODEL", "--device", "cuda"], "there is no GPU here"),
        (["-i", "CTS", "-o", "OUT", "-m", "MODEL", "--device", "cuda:7"], "no such device; available: cpu"),
    ],
)
def test_wrong_words_give_one_line_and_write_nothing(words, message, cts, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "empty").mkdir()
    places = {"CTS": cts, "OUT": tmp_path / "out", "EMPTY": tmp_path / "empty", "MODEL": model, "NOWHERE": Path("/no")}
    assert run(*(places.get(word, word) for word in words)) == 1
    *remarks, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert all(remark.startswith(("model ", "no label_statistics.json")) for remark in remarks)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_dicom_seg_of_a_real_series(model, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    series = Path(__file__).resolve().parents[3] / "shared" / "data" / "real_ct" / "upper_abdomen_slab" / "dicom"
    if not series.is_dir():
        pytest.skip("the real CTs are not here")
    assert run("-i", series, "-o", tmp_path / "out", "-m", model, "--dicom-seg") == 0
    mask = sitk.ReadImage(str(tmp_path / "out" / "dicom.nii.gz"))
    label = sitk.ReadImage(str(series.parent / "label.nii.gz"))
    assert mask.GetSize() == label.GetSize()
    np.testing.assert_allclose(mask.GetOrigin(), label.GetOrigin(), atol=1e-3)
    assert pydicom.dcmread(tmp_path / "out" / "dicom.dcm").Modality == "SEG"
