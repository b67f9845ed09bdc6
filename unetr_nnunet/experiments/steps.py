"""Run commands one after the other, each once: a step that is done is not run again while its command is the same."""

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


class StepFailedError(RuntimeError):
    """A step's command failed; the message holds its last lines and names its log."""


def run_steps(steps: Sequence[Step], folder: Path, environment: Mapping[str, str]) -> None:
    """Run the steps that are not done yet, in order; the first failure or interruption ends it.

    A step's output goes to ``folder/logs/<name>.log``. When it is done ``folder/done/<name>`` holds its command. A step
    whose command has changed is run again, and so is every step after it. An interruption ends the running command
    with SIGTERM, so that a training saves its state.

    Args:
        steps: what to run.
        folder: where logs and marks go.
        environment: environment variables of the commands, added to this process's.

    Raises:
        StepFailedError: a command exited with another code than 0.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after the running command has ended.
    """
    before = signal.signal(signal.SIGTERM, _interrupt)
    fresh = True
    try:
        for number, step in enumerate(steps, start=1):
            label = f"[{number}/{len(steps)}] {step.title}"
            mark = folder / "done" / step.name
            command = shlex.join(step.command)
            fresh = fresh and mark.is_file() and mark.read_text(encoding="utf-8") == command
            if fresh:
                _say(f"{label}: done before\n")
                continue
            mark.unlink(missing_ok=True)
            _run(step, label, folder / "logs" / f"{step.name}.log", {**os.environ, **environment})
            with atomic_path(mark) as temporary:
                temporary.write_text(command, encoding="utf-8")
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(step: Step, label: str, log: Path, environment: Mapping[str, str]) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("a", encoding="utf-8") as stream:
        stream.write(f"$ {shlex.join(step.command)}\n")
        stream.flush()
        # a session of its own: Ctrl-C reaches this process alone, which then ends the command in an orderly way
        process = subprocess.Popen(
            step.command, stdout=stream, stderr=subprocess.STDOUT, env=dict(environment), start_new_session=True
        )
        try:
            while process.poll() is None:
                if sys.stderr.isatty():
                    _say(f"\r{label}: {time.monotonic() - start:.0f} s ")
                time.sleep(POLL_S)
        except KeyboardInterrupt:
            _say(f"\n{label}: interrupted, saving\n")
            process.terminate()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    returned = "\r" if sys.stderr.isatty() else ""
    if process.returncode:
        last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:])
        raise StepFailedError(f"{step.title} failed (exit code {process.returncode}). The end of {log}:\n{last}")
    _say(f"{returned}{label}: {time.monotonic() - start:.0f} s\n")


def _interrupt(signal_number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
