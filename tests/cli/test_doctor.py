from pathlib import Path

import pytest

from unetr_nnunet import doctor
from unetr_nnunet.cli.main import main
from unetr_nnunet.doctor import Finding


def test_nothing_broken(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "diagnose", lambda name: [Finding("torch", "ok", "2"), Finding("GPU", "note", "none")])
    assert main(["doctor"]) == 0
    assert "nothing broken" in capsys.readouterr().out


def test_something_broken_exits_with_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "diagnose", lambda name: [Finding("torch", "broken", "none", "install torch")])
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "-> install torch" in shown
    assert "1 broken" in shown


def test_the_real_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in doctor.FOLDERS:
        monkeypatch.setenv(name, str(tmp_path / name))
    assert main(["doctor", "--trainer", "nnUNetTrainerUNETR_Tiny_3epochs"]) == 0
    assert "nnU-Net finds nnUNetTrainerUNETR_Tiny_3epochs" in capsys.readouterr().out
