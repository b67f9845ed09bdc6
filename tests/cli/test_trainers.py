import pytest

from unetr_nnunet.cli.main import main


def test_tokens_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trainers"]) == 0
    shown = capsys.readouterr().out
    for token in ("Tiny", "Large", "Paper", "NoLRFlip", "<N>epochs", "seed<N>"):
        assert token in shown


def test_a_name_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trainers", "nnUNetTrainerUNETR_Tiny_7epochs"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "Tiny" in rows["size"]
    assert " 7 " in rows["epochs"]
