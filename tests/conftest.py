"""Fixtures that several rooms' tests share."""

import fcntl
import json
import multiprocessing.dummy
import multiprocessing.pool  # whose own get_context stays
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import settings

from tests.chromium import chromium, watched_page  # noqa: F401 -- fixtures of pages' tests

settings.register_profile("any speed", settings.default, deadline=None)
settings.load_profile("any speed")
DATASET = "Dataset917_Blobs"
REAL_CT = Path(__file__).resolve().parents[2] / "shared" / "data" / "real_ct"
OPENKBP = REAL_CT.with_name("openkbp")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Begin with the slow tests, and run those in one process that share a fixture of their module."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        fixtures = [definitions[-1] for definitions in item._fixtureinfo.name2fixturedefs.values()]
        if any(fixture.scope == "module" for fixture in fixtures):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


@pytest.fixture
def real_ct() -> Path:
    """The folder of the two real CTs; a test that asks for it is skipped where they are absent."""
    if not REAL_CT.is_dir():
        pytest.skip("the two real CTs are not on this machine")
    return REAL_CT


@pytest.fixture
def openkbp() -> Path:
    """The folder of the head-and-neck CTs from OpenKBP; a test that asks for it is skipped where they are absent."""
    if not OPENKBP.is_dir():
        pytest.skip("the CTs of OpenKBP are not on this machine")
    return OPENKBP


def shorten_epochs(monkeypatch: pytest.MonkeyPatch, iterations: int) -> None:
    """Make nnU-Net's epochs shorter in all processes that start from now on; see tests/short_epochs."""
    folders = [str(Path(__file__).parent / "short_epochs"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))
    monkeypatch.setenv("TEST_ITERATIONS_PER_EPOCH", str(iterations))


@pytest.fixture(autouse=True, scope="session")
def _single_threaded_native_libraries() -> None:
    """Tests run side by side on few cores."""
    os.environ["nnUNet_def_n_proc"] = "1"
    os.environ["nnUNet_n_proc_DA"] = "1"
    os.environ["OMP_NUM_THREADS"] = "1"


def write_blob_dataset(raw: Path, *, cases: int = 5) -> Path:
    """Write a raw nnU-Net data set of small CT-like volumes, a bright and a dark ball in each (16 x 32 x 32 voxels)."""
    folder = raw / DATASET
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True)
    grid = np.stack(np.meshgrid(np.arange(16), np.arange(32), np.arange(32), indexing="ij"))
    for case in range(cases + 1):
        random = np.random.default_rng(case)
        image = random.normal(0, 20, grid.shape[1:])
        label = np.zeros(image.shape, np.uint8)
        for organ, value in ((1, 300), (2, -300)):
            centre = random.uniform((5, 8, 8), (11, 24, 24))
            ball = (((grid - centre[:, None, None, None]) / 5) ** 2).sum(0) < 1
            image[ball], label[ball] = value, organ
        part = "Tr" if case < cases else "Ts"
        volumes = [(image.astype(np.int16), folder / f"images{part}" / f"case_{case}_0000.nii.gz")]
        volumes += [(label, folder / "labelsTr" / f"case_{case}.nii.gz")] if part == "Tr" else []
        for array, path in volumes:
            volume = sitk.GetImageFromArray(array)
            volume.SetSpacing((1.0, 1.0, 2.0))
            sitk.WriteImage(volume, str(path))
    (folder / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": {"0": "CT"},
                "labels": {"background": 0, "bright": 1, "dark": 2},
                "numTraining": cases,
                "file_ending": ".nii.gz",
                "overwrite_image_reader_writer": "NibabelIOWithReorient",
            }
        )
    )
    return folder


def nnunet_command(name: str, *words: str, timeout_s: float = 1800) -> str:
    """Run one of nnU-Net's commands, or our own, in a fresh process and return what it prints."""
    command = [str(Path(sys.executable).parent / name), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def set_nnunet_folders(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, FOLDERS, nnunet_variables

    for name in (*FOLDERS, EXTERNAL_TRAINERS):
        monkeypatch.delenv(name, raising=False)
    for name, value in nnunet_variables(root).items():
        monkeypatch.setenv(name, value)


def use_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make nnU-Net's pools threads: processes take seconds to start, for milliseconds of work on small volumes."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: multiprocessing.dummy)
    monkeypatch.setattr("nnunetv2.utilities.utils.Pool", multiprocessing.dummy.Pool)


def preprocess_blobs(root: Path) -> None:
    """Do to the blobs what nnUNetv2_plan_and_preprocess does, in this process."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as nnunet

    with pytest.MonkeyPatch.context() as monkeypatch:
        set_nnunet_folders(monkeypatch, root)
        use_threads(monkeypatch)
        write_blob_dataset(root / "nnUNet_raw")
        nnunet.extract_fingerprints([917], num_processes=1)
        nnunet.plan_experiments([917])
        nnunet.preprocess([917], configurations=["3d_fullres"], num_processes=[1])


@pytest.fixture(scope="session")
def _preprocessed_blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The blobs, planned and preprocessed once for all processes that run tests side by side."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / "blobs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "blobs").exists():
            root = tmp_path_factory.mktemp("blobs")
            preprocess_blobs(root)
            root.rename(shared / "blobs")
    return shared / "blobs"


@pytest.fixture
def blobs(_preprocessed_blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a planned and preprocessed data set; nnU-Net's variables point at it. Returns the root folder."""
    shutil.copytree(_preprocessed_blobs, tmp_path, dirs_exist_ok=True)
    set_nnunet_folders(monkeypatch, tmp_path)
    return tmp_path


def install_package(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str, architectures: dict[str, str]
) -> None:
    """Install a package's metadata, for this process and those it starts.

    Args:
        folder: where its modules are.
        monkeypatch: undoes it.
        name: of the package.
        version: of the package.
        architectures: name → "module:attribute".
    """
    metadata = folder / f"{name}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{entry} = {target}" for entry, target in architectures.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[unetr_nnunet.architectures]", *lines, ""]))
    monkeypatch.syspath_prepend(folder)
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *([before] if before else [])]))


@pytest.fixture
def forget_architectures() -> Iterator[None]:
    """Look for installed architectures again, in the test and after it."""
    from unetr_nnunet.architectures import registry
    from unetr_nnunet.trainers import factory, tokens

    def forget() -> None:
        registry.registrations.cache_clear()
        registry.loaded.cache_clear()
        tokens.token_groups.cache_clear()
        factory.trainer_class.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def otherlab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget_architectures: None) -> None:
    """Install another package with the architectures Pyramid, Line and Opaque."""
    folder = tmp_path / "site"
    names = {"Pyramid": "otherlab:PYRAMID", "Line": "otherlab:LINE", "Opaque": "otherlab:OPAQUE"}
    install_package(folder, monkeypatch, "otherlab", "1.2", names)
    shutil.copy(Path(__file__).with_name("otherlab.py"), folder)


Loader = Callable[[str], dict[str, object]]


@pytest.fixture
def make_trainer(blobs: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Build a trainer by name on the blobs, with a few small iterations per epoch and no processes for augmentation."""
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")

    def make(name: str, fold: int | str = 0, **plan_changes: object) -> object:
        import torch

        from unetr_nnunet.trainers.factory import trainer_class

        preprocessed = blobs / "nnUNet_preprocessed" / DATASET
        plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
        plans["configurations"]["3d_fullres"].update({"patch_size": [16, 32, 32], "batch_size": 2, **plan_changes})
        plans["continue_training"] = False
        dataset = json.loads((preprocessed / "dataset.json").read_text())
        trainer = trainer_class(name)(plans, "3d_fullres", fold, dataset, torch.device("cpu"))
        trainer.logger.plot_progress_png = lambda folder: None  # large, slow, and not what is tested
        trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 4, 1
        return trainer

    return make
