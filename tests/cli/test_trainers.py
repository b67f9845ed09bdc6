import re
from pathlib import Path

import pytest

from tests.conftest import install_package
from unetr_nnunet.architectures import registry
from unetr_nnunet.cli.main import main


def test_tokens_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trainers"]) == 0
    shown = capsys.readouterr().out
    for token in ("Tiny", "Large", "Paper", "NoLRFlip", "<N>epochs", "seed<N>"):
        assert token in shown


def test_a_name_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trainers", "nnUNetTrainerUNETR_Tiny_7epochs"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "Tiny" in rows["size"]
    assert " 7 " in rows["epochs"]


def test_other_packages_architectures_are_listed_and_what_is_wrong_with_them(
    otherlab: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_package(tmp_path / "second", monkeypatch, "thirdlab", "0.1", {"Line": "thirdlab:NET"})
    registry.registrations.cache_clear()
    assert main(["trainers"]) == 0
    shown = capsys.readouterr().out
    assert "nnUNetTrainerNet_<Name>" in shown
    assert re.search(r"^Pyramid +otherlab 1\.2$", shown, re.MULTILINE)
    assert "not available: architecture 'Line' is registered by otherlab 1.2, as Line and thirdlab 0.1" in shown
    assert main(["trainers", "nnUNetTrainerNet_Pyramid_Slim"]) == 0
    shown = capsys.readouterr().out
    assert "two scales; otherlab 1.2" in shown
    assert "size: Slim" in shown
