import contextlib
import io
import json
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch
from nnunetv2.model_sharing.model_export import export_pretrained_model
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from tests.inference.small_model import plans
from tests.inference.stock_checkpoint import build, content, write_folder
from unetr_nnunet.inference import model_zip
from unetr_nnunet.inference.model import load_model
from unetr_nnunet.inference.model_set import read_model_set
from unetr_nnunet.inference.model_zip import model_folder

MODEL = "Dataset999_Toy/nnUNetTrainer__nnUNetPlans__3d_fullres"


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of the code under test."""
    folder = tmp_path / "scratch" / "temporary"
    folder.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnU-Net's results with a model of two folds, and what a training leaves beside it."""
    root = tmp_path / "nnUNet_results"
    checkpoints = {
        f"fold_{fold}/checkpoint_final.pth": content(build(nnUNetTrainer, plans()), plans()) for fold in (0, 1)
    }
    folder = write_folder(root / MODEL, plans(), checkpoints)
    for fold in (0, 1):
        (folder / f"fold_{fold}" / "validation").mkdir()
        for name in ("progress.png", "debug.json", "validation/summary.json"):
            (folder / f"fold_{fold}" / name).write_text("{}")
    (folder / "dataset_fingerprint.json").write_text("{}")
    monkeypatch.setenv("nnUNet_results", str(root))
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.delenv(name, raising=False)
    return root


@pytest.fixture
def exported(results: Path, tmp_path: Path) -> Path:
    path = tmp_path / "model.zip"
    with contextlib.redirect_stdout(io.StringIO()):
        export_pretrained_model("Dataset999_Toy", str(path), ("3d_fullres",), folds=(0, 1))
    return path


def test_an_exported_model_is_the_model_for_as_long_as_the_block_runs(
    exported: Path, results: Path, scratch: Path
) -> None:
    with model_folder(exported) as folder:
        assert scratch in folder.parents
        assert folder.name == Path(MODEL).name
        packed, original = load_model(folder, None), load_model(results / MODEL, None)
        assert len(packed.parameters) == 2
        for got, expected in zip(packed.parameters, original.parameters, strict=True):
            assert all(torch.equal(got[name], expected[name]) for name in expected)
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        needed = [f"fold_{fold}/checkpoint_final.pth" for fold in (0, 1)]
        assert files == ["dataset.json", *needed, "plans.json"], "nothing else is unpacked"
    assert list(scratch.iterdir()) == []


def test_what_a_bundle_holds_of_the_training_labels_is_unpacked(results: Path, tmp_path: Path) -> None:
    (results / MODEL / "label_statistics.json").write_text("{}")
    archive = Path(shutil.make_archive(str(tmp_path / "bundle"), "zip", results))
    with model_folder(archive) as folder:
        assert (folder / "label_statistics.json").read_text() == "{}"


def test_the_folder_goes_after_an_error_too(exported: Path, scratch: Path) -> None:
    with pytest.raises(KeyError), model_folder(exported):
        raise KeyError
    assert list(scratch.iterdir()) == []


def test_a_zip_of_the_model_folder_itself(results: Path, tmp_path: Path) -> None:
    path = Path(shutil.make_archive(str(tmp_path / "bare"), "zip", results / MODEL))
    with model_folder(path) as folder:
        assert load_model(folder, [1]).trainer_name == "nnUNetTrainer"


def test_a_folder_is_taken_as_it_is(results: Path, scratch: Path) -> None:
    with model_folder(results / MODEL) as folder:
        assert folder == results / MODEL
        assert list(scratch.iterdir()) == []
    assert folder.is_dir()


def test_several_models_are_named(results: Path, tmp_path: Path, scratch: Path) -> None:
    shutil.copytree(results / MODEL, (results / MODEL).with_name("nnUNetTrainer__nnUNetPlans__2d"))
    path = tmp_path / "model.zip"
    with contextlib.redirect_stdout(io.StringIO()):
        export_pretrained_model("Dataset999_Toy", str(path), ("2d", "3d_fullres"), folds=(0, 1))
    names = r"Dataset999_Toy/nnUNetTrainer__nnUNetPlans__2d, Dataset999_Toy/nnUNetTrainer__nnUNetPlans__3d_fullres"
    with pytest.raises(ValueError, match=rf"model\.zip holds 2 models, {names}: unpack it"), model_folder(path):
        pass
    assert list(scratch.iterdir()) == []


def test_a_chosen_set_is_unpacked_whole(results: Path, tmp_path: Path, scratch: Path) -> None:
    second = "nnUNetTrainerOther__nnUNetPlans__3d_fullres"
    folder = results / "Dataset999_Toy"
    shutil.copytree(results / MODEL, folder / second)
    content = {"models": [Path(MODEL).name, second], "folds": [0, 1], "postprocessing": []}
    (folder / "best_model.json").write_text(json.dumps(content))
    for root in (results, folder):  # as a study writes it, and of the folder itself
        path = Path(shutil.make_archive(str(tmp_path / "best_model"), "zip", root))
        with model_folder(path) as unpacked:
            found = read_model_set(unpacked)
            assert found is not None
            assert found.models == (unpacked / Path(MODEL).name, unpacked / second)
            for model in found.models:
                assert len(load_model(model, found.folds).parameters) == 2
            files = {str(each.relative_to(unpacked)) for each in unpacked.rglob("*") if each.is_file()}
            needed = ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth", "fold_1/checkpoint_final.pth")
            assert files == {"best_model.json", *(f"{model.name}/{name}" for model in found.models for name in needed)}
        assert list(scratch.iterdir()) == []


def test_several_sets_are_not_guessed_among(results: Path, tmp_path: Path, scratch: Path) -> None:
    for name in ("Dataset999_Toy", "Dataset998_Toy"):
        shutil.copytree(results / MODEL, results / name / "m", dirs_exist_ok=True)
        (results / name / "best_model.json").write_text('{"models": ["m"], "folds": [0], "postprocessing": []}')
    path = Path(shutil.make_archive(str(tmp_path / "two"), "zip", results))
    with pytest.raises(ValueError, match=r"two\.zip holds \d models, .*: unpack it"), model_folder(path):
        pass
    assert list(scratch.iterdir()) == []


# ---- files that are no models, or mean harm ----


def entry(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("placeholder")
    info.filename = info.orig_filename = name  # the constructor would tidy it up
    info.external_attr = mode << 16
    return info


def refused(path: Path, scratch: Path, reason: str) -> None:
    before = {found: found.stat().st_mtime_ns for found in path.parent.rglob("*") if found.is_file()}
    with pytest.raises(ValueError, match=reason) as caught, model_folder(path):
        pass
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(scratch.iterdir()) == []
    assert {found: found.stat().st_mtime_ns for found in path.parent.rglob("*") if found.is_file()} == before


@pytest.mark.parametrize(
    "name",
    [
        "/m/fold_0/evil.pth",
        "../evil.pth",
        "m/fold_0/../../../evil.pth",
        "m/fold_0/..",
        "..\\evil.pth",
        "m\\..\\..\\evil.pth",
        "\\evil.pth",
        "C:\\evil.pth",
        "c:evil.pth",
        "../evil.pth\0.pth",
    ],
)
def test_nothing_is_written_outside(tmp_path: Path, scratch: Path, name: str) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/plans.json", "{}")
        archive.writestr(entry(name), "evil")
    refused(path, scratch, "leads out of the folder it is unpacked to")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path: Path, scratch: Path, kind: int) -> None:
    path = tmp_path / "links.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/plans.json", "{}")
        archive.writestr(entry("m/fold_0", kind | 0o777), "/etc")
        archive.writestr("m/fold_0/checkpoint_final.pth", "evil")
    refused(path, scratch, r"its entry 'm/fold_0' is a link or a device")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/plans.json", "{}")
        archive.writestr("m/fold_0/checkpoint_final.pth", bytes(30 * 2**20))
    with model_folder(path):
        pass  # a small file may shrink as it likes
    monkeypatch.setattr(model_zip, "FREE_GIB", 20 / 1024)
    refused(path, scratch, r"unpacks from \S+ to 0\.0293 GiB; the limits are 64 GiB and, .* 20 times its size")
    monkeypatch.setattr(model_zip, "MAX_RATIO", 10**9)
    monkeypatch.setattr(model_zip, "MAX_GIB", 25 / 1024)
    refused(path, scratch, "the limits are")


def test_a_declared_size_that_is_too_small_does_not_help_a_bomb(tmp_path: Path, scratch: Path) -> None:
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/plans.json", "{}")
        archive.writestr("m/fold_0/checkpoint_final.pth", bytes(3 * 2**20))
    content = path.read_bytes()
    assert content.count((3 * 2**20).to_bytes(4, "little")) >= 2
    path.write_bytes(content.replace((3 * 2**20).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    refused(path, scratch, "no zip file that can be read")


def test_a_full_disk_is_told_before(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(exported.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OSError, match=r"model\.zip unpacks to \S+ GiB, and .* let TMPDIR name"), model_folder(exported):
        pass


def test_damaged_and_other_files(exported: Path, tmp_path: Path, scratch: Path) -> None:
    whole = exported.read_bytes()
    middle = bytearray(whole)
    middle[len(whole) // 2] ^= 0xFF
    for name, data in (("text", b"hello"), ("empty", b""), ("short", whole[: len(whole) // 2]), ("bit", bytes(middle))):
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, scratch, "is no zip file that can be read")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(tmp_path / "other.zip", scratch, "holds no model: there is no plans.json in it")


def test_an_encrypted_zip(tmp_path: Path, scratch: Path) -> None:
    path = tmp_path / "secret.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/plans.json", "{}")
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag "encrypted"
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)
    refused(path, scratch, "encrypted")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.zip: there is no such"), model_folder(tmp_path / "none.zip"):
        pass
