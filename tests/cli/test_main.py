import logging
import subprocess
import sys
from pathlib import Path

import pytest

from unetr_nnunet.cli import main as main_module
from unetr_nnunet.cli.main import COMMANDS, main

HEAVY = ("torch", "nnunetv2", "SimpleITK", "scipy", "matplotlib", "numpy")


@pytest.mark.parametrize(
    "code", ["import unetr_nnunet", "from unetr_nnunet.cli.main import build_parser; build_parser(None)"]
)
def test_nothing_heavy_is_imported_before_a_command_is_chosen(code: str) -> None:
    check = f"{code}; import sys; sys.exit(' '.join(m for m in {HEAVY} if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: unetr_nnunet {command}" in shown
    assert "example:" in shown


def test_every_command_file_is_listed() -> None:
    files = {path.stem for path in Path(main_module.__file__).parent.glob("*.py")} - {"__init__", "main"}
    assert files == {name.replace("-", "_") for name in COMMANDS}


@pytest.mark.parametrize("words", [[], ["nonsense"], ["trainers", "--nonsense"]])
def test_wrong_usage_exits_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_an_error_is_one_readable_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trainers", "nnUNetTrainerUNETR_Huge"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: nnUNetTrainerUNETR_Huge: unknown token 'Huge'")
    assert error.count("\n") == 1
    assert main(["trainers", "--debug", "nnUNetTrainerUNETR_Huge"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_unexpected_error_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from unetr_nnunet.cli import trainers

    monkeypatch.setattr(trainers, "run", lambda arguments: {}["key"])
    assert main(["trainers"]) == 1
    assert "unexpected KeyError: 'key' (--debug shows where)" in capsys.readouterr().err


def test_the_rooms_log_plain_lines_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from unetr_nnunet.cli import trainers

    def talking(arguments: object) -> int:
        logging.getLogger("unetr_nnunet.some.room").info("two of three")
        return 0

    monkeypatch.setattr(trainers, "run", talking)
    assert main(["trainers"]) == main(["trainers"]) == 0
    assert capsys.readouterr() == ("", "two of three\n" * 2)


def test_ctrl_c_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    from unetr_nnunet.cli import trainers

    def interrupted(arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainers, "run", interrupted)
    assert main(["trainers"]) == 130


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import unetr_nnunet

    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"unetr_nnunet {unetr_nnunet.__version__}\n"
