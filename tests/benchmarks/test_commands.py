from pathlib import Path

import pytest

from benchmarks.commands import run_once


def test_commands_run_side_by_side_once_and_again_when_they_change(tmp_path: Path) -> None:
    def command(text: str) -> tuple[str, ...]:
        code = f"import os; open({str(tmp_path / 'out')!r}, 'a').write({text!r} + os.environ['MARK'])"
        return ("python", "-c", code)

    for text in ("a", "a", "b"):
        run_once(tmp_path, {"MARK": "!"}, {"write": command(text), "same": ("python", "-c", "")})
    assert (tmp_path / "out").read_text() == "a!b!"


def test_a_failure_names_the_log(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"bad failed with exit code 3: see .*bad\.log"):
        run_once(tmp_path, {}, {"bad": ("python", "-c", "print('the reason', flush=True); raise SystemExit(3)")})
    assert (tmp_path / "logs" / "bad.log").read_text() == "the reason\n"
    assert not (tmp_path / "done").exists() or not any((tmp_path / "done").iterdir())
