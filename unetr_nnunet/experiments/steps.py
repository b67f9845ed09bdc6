"""Run commands, each once: a step that is done is not run again while its command is the same."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from unetr_nnunet.atomic import atomic_path

POLL_S = 0.5
GRACE_S = 60.0
LAST_LINES = 15


@dataclass(frozen=True)
class Step:
    """One command of a workflow.

    Attributes:
        name: names the step's log and done mark; unique in a workflow.
        title: what it does, for the user.
        command: program and arguments.
    """

    name: str
    title: str
    command: Sequence[str]


def program(name: str, *words: str) -> tuple[str, ...]:
    """Return a command whose program lies beside this Python's, whatever PATH says."""
    return (str(Path(sys.executable).parent / name), *words)


class StepFailedError(RuntimeError):
    """A step's command failed; the message holds its last lines and names its log."""


def run_steps(stages: Sequence[Sequence[Step]], folder: Path, environment: Mapping[str, str]) -> None:
    """Run the steps that are not done yet: stage by stage, the steps of one stage side by side.

    A step's output goes to ``folder/logs/<name>.log``. When it is done ``folder/done/<name>`` holds its command. A step
    whose command has changed is run again, and so are all steps of later stages. The first failure or interruption ends
    the run; commands that are still running then get SIGTERM, so that a training saves its state.

    Args:
        stages: what to run.
        folder: where logs and marks go.
        environment: environment variables of the commands, added to this process's.

    Raises:
        StepFailedError: a command exited with another code than 0.
        KeyboardInterrupt: on Ctrl-C, SIGTERM or SIGHUP, after the running commands have ended.
    """
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    fresh = True
    try:
        for number, stage in enumerate(stages, start=1):
            label = f"[{number}/{len(stages)}] {', '.join(step.title for step in stage)}"
            undone = [step for step in stage if not (fresh and _done(folder, step))]
            if undone:
                fresh = False
                _run_stage(undone, label, folder, {**os.environ, **environment})
            else:
                _say(f"{label}: done before\n")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _mark(folder: Path, step: Step) -> Path:
    return folder / "done" / step.name


def _done(folder: Path, step: Step) -> bool:
    mark = _mark(folder, step)
    return mark.is_file() and mark.read_text(encoding="utf-8") == shlex.join(step.command)


def _run_stage(steps: Sequence[Step], label: str, folder: Path, environment: Mapping[str, str]) -> None:
    start = time.monotonic()
    running: dict[subprocess.Popen[bytes], Step] = {}
    try:
        for step in steps:
            _mark(folder, step).unlink(missing_ok=True)
            running[_start(step, _log(folder, step), environment)] = step
        while running:
            for process in [process for process in running if process.poll() is not None]:
                _finish(process.returncode, running.pop(process), folder)
            if sys.stderr.isatty():
                _say(f"\r{label}: {time.monotonic() - start:.0f} s ")
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        _say(f"\n{label}: interrupted, saving\n")
        raise
    finally:
        _end(list(running))
    _say(f"{chr(13) if sys.stderr.isatty() else ''}{label}: {time.monotonic() - start:.0f} s\n")


def _log(folder: Path, step: Step) -> Path:
    return folder / "logs" / f"{step.name}.log"


def _start(step: Step, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as stream:
        stream.write(f"$ {shlex.join(step.command)}\n")
        stream.flush()
        # a session of its own: Ctrl-C reaches this process alone, which then ends the command in an orderly way
        return subprocess.Popen(
            step.command, stdout=stream, stderr=subprocess.STDOUT, env=dict(environment), start_new_session=True
        )


def _finish(code: int, step: Step, folder: Path) -> None:
    """Mark a step as done, or raise its failure."""
    if code:
        log = _log(folder, step)
        last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:])
        raise StepFailedError(f"{step.title} failed (exit code {code}). The end of {log}:\n{last}")
    with atomic_path(_mark(folder, step)) as temporary:
        temporary.write_text(shlex.join(step.command), encoding="utf-8")


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End what still runs, workers included: SIGTERM, and SIGKILL after a grace period. A second Ctrl-C waits too."""
    if not processes:
        return
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    for process in processes:
        os.killpg(process.pid, signal.SIGTERM)
    for process in processes:
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for number, handler in before.items():
        signal.signal(number, handler)


def _interrupt(signal_number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
