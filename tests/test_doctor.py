import importlib
import importlib.metadata
import os
from pathlib import Path

import pytest

from tests.conftest import install_package
from unetr_nnunet import doctor
from unetr_nnunet.architectures import registry
from unetr_nnunet.doctor import Finding, diagnose
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, FOLDERS, trainer_folder

NAME = "nnUNetTrainerUNETR_Tiny"


def by_subject(name: str = NAME) -> dict[str, Finding]:
    return {finding.subject: finding for finding in diagnose(name)}


def test_this_installation_is_sound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in FOLDERS:
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv(EXTERNAL_TRAINERS, str(trainer_folder()))
    found = by_subject()
    assert [finding for finding in found.values() if finding.status == "broken"] == []
    assert found["torch"].fact == importlib.metadata.version("torch")
    assert found["trainer look-up"].status == found[EXTERNAL_TRAINERS].status == "ok"
    assert "GiB free" in found["nnUNet_raw"].fact


def test_what_is_not_set_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*FOLDERS, EXTERNAL_TRAINERS):
        monkeypatch.delenv(name, raising=False)
    found = by_subject()
    for name in (*FOLDERS, EXTERNAL_TRAINERS):
        assert found[name].status == "note"
        assert "unetr_nnunet env" in found[name].remedy
    assert found["trainer look-up"].status == "ok", "the look-up itself sets our folder"
    assert EXTERNAL_TRAINERS not in os.environ


def test_a_mismatched_torchvision_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def importing(name: str, package: str | None = None) -> object:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", importing)
    finding = by_subject()["torchvision"]
    assert finding.status == "broken"
    assert "torchvision::nms" in finding.fact
    assert "same place" in finding.remedy


@pytest.mark.parametrize(("package", "version"), [("torch", "2.9.1"), ("nnunetv2", "2.7.0"), ("nnunetv2", "2.9")])
def test_untested_versions_are_told(monkeypatch: pytest.MonkeyPatch, package: str, version: str) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version if name == package else real(name))
    finding = by_subject()[package]
    assert finding.status == "broken"
    assert version in finding.fact
    assert "pip install" in finding.remedy


def test_a_package_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "highdicom":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    finding = by_subject()["highdicom"]
    assert (finding.status, finding.fact) == ("broken", "not installed")
    assert finding.remedy.startswith("pip install 'highdicom")


def test_what_only_developers_need_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = ['nosuchpackage; extra == "dev"', "nosuchwindows; sys_platform == 'win32'", "psutil>=1"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: listed)
    assert not {"nosuchpackage", "nosuchwindows", "psutil"} & set(by_subject())


def test_a_wrong_name_is_told() -> None:
    assert "unknown token 'Huge'" in by_subject("nnUNetTrainerUNETR_Huge")["trainer name"].fact


def test_a_foreign_trainer_that_breaks_the_look_up_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a_foreign_trainer.py").write_text("raise OSError('no licence server')")
    monkeypatch.setenv(EXTERNAL_TRAINERS, str(tmp_path))
    monkeypatch.setattr(
        doctor,
        "nnunet_variables",
        lambda root: {EXTERNAL_TRAINERS: os.pathsep.join([str(tmp_path), str(trainer_folder())])},
    )
    finding = by_subject()["trainer look-up"]
    assert finding.status == "broken"
    assert "no licence server" in finding.fact
    assert os.environ[EXTERNAL_TRAINERS] == str(tmp_path)


def test_too_many_workers_for_the_memory_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "100000")
    finding = by_subject()["workers"]
    assert finding.status == "note"
    assert "export nnUNet_n_proc_DA=" in finding.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    assert by_subject()["nnUNet_results"].status == "broken"


MINE = """
from unetr_nnunet.trainers.names import TrainerName
from unetr_nnunet.trainers.unetr_trainer import nnUNetTrainerUNETR

class nnUNetTrainerMine(nnUNetTrainerUNETR):
    settings = TrainerName("FPN", size="Tiny", seed=3)
"""


def test_a_subclass_of_ours_is_not_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.setenv(EXTERNAL_TRAINERS, str(tmp_path))
    found = by_subject("nnUNetTrainerMine")
    assert found["trainer look-up"].status == "ok"
    assert found["trainer look-up"].fact.endswith("in mine, with the settings of nnUNetTrainerUNETR_FPN_Tiny_seed3")
    assert by_subject("nnUNetTrainerNoDA")["trainer look-up"].status == "ok"
    assert by_subject("nnUNetTrainerNowhere")["trainer look-up"].status == "broken"


def test_other_packages_architectures_are_told(otherlab: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = by_subject("nnUNetTrainerNet_Pyramid_Slim")
    told = found["architectures"].fact.removeprefix("beside UNETR's variants: ").split(", ")
    assert [one for one in told if "otherlab" in one] == [
        f"{name} (otherlab 1.2)" for name in ("Line", "Opaque", "Pyramid")
    ]
    assert found["trainer look-up"].status == "ok"
    install_package(tmp_path / "second", monkeypatch, "thirdlab", "0.1", {"Line": "thirdlab:NET"})
    registry.registrations.cache_clear()
    problems = [finding.fact for finding in diagnose(NAME) if finding.subject == "architectures"]
    assert "otherlab 1.2, as Line and thirdlab 0.1" in problems[0]
