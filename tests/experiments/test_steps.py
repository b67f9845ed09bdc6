import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unetr_nnunet.experiments.steps import Step, StepFailedError, run_steps


def append(name: str, target: Path, text: str = "x") -> Step:
    code = f"import os; open({str(target)!r}, 'a').write({text!r} + os.environ.get('EXTRA', ''))"
    return Step(name, f"append {name}", (sys.executable, "-c", code))


def test_steps_run_once_and_again_when_their_command_changes(tmp_path: Path) -> None:
    target = tmp_path / "out"
    first, second = append("a", target, "a"), append("b", target, "b")
    run_steps([[first], [second]], tmp_path, {"EXTRA": "!"})
    run_steps([[first], [second]], tmp_path, {"EXTRA": "!"})
    assert target.read_text() == "a!b!"
    run_steps([[append("a", target, "c")], [second]], tmp_path, {})
    assert target.read_text() == "a!b!cb", "what follows a changed step runs again too"


def test_a_failure_shows_the_log_and_stops(tmp_path: Path) -> None:
    target = tmp_path / "out"
    bad = Step("bad", "break", (sys.executable, "-c", "print('the reason'); raise SystemExit(3)"))
    with pytest.raises(StepFailedError, match=r"break failed \(exit code 3\).*bad.log:\n(.*\n)*the reason"):
        run_steps([[append("a", target)], [bad], [append("b", target)]], tmp_path, {})
    assert target.read_text() == "x"
    assert sorted(path.name for path in (tmp_path / "done").iterdir()) == ["a"]


def test_the_steps_of_a_stage_run_side_by_side(tmp_path: Path) -> None:
    def meet(own: str, other: str) -> Step:
        code = (
            f"import pathlib, time; pathlib.Path({str(tmp_path / own)!r}).touch()\n"
            f"while not pathlib.Path({str(tmp_path / other)!r}).exists(): time.sleep(0.05)"
        )
        return Step(own, own, (sys.executable, "-c", code))

    run_steps([[meet("left", "right"), meet("right", "left")]], tmp_path, {})
    assert sorted(path.name for path in (tmp_path / "done").iterdir()) == ["left", "right"]


def test_a_failure_ends_its_neighbours(tmp_path: Path) -> None:
    bad = Step("bad", "break", (sys.executable, "-c", "raise SystemExit(1)"))
    long = Step("long", "sleep", (sys.executable, "-c", "import time; time.sleep(300)"))
    start = time.monotonic()
    with pytest.raises(StepFailedError):
        run_steps([[long, bad]], tmp_path, {})
    assert time.monotonic() - start < 60
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_the_command_in_an_orderly_way(tmp_path: Path, sent: signal.Signals) -> None:
    child = (
        "import signal, sys, time, pathlib\n"
        "def stop(*_):\n"
        f"    pathlib.Path({str(tmp_path / 'saved')!r}).touch(); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        f"pathlib.Path({str(tmp_path / 'started')!r}).touch()\n"
        "time.sleep(60)"
    )
    parent = (
        "import sys, pathlib\n"
        "from unetr_nnunet.experiments.steps import Step, run_steps\n"
        f"step = Step('long', 'sleep', (sys.executable, '-c', {child!r}))\n"
        f"run_steps([[step]], pathlib.Path({str(tmp_path)!r}), {{}})"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, sent)
    _, error = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in error
    assert (tmp_path / "saved").exists(), "the command was told to save"
    assert not (tmp_path / "done" / "long").exists()
