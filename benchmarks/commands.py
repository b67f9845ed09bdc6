"""Run the commands of a benchmark, each once: a benchmark that was stopped continues where it was."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

Command = tuple[str, ...]


def run_once(work: Path, environment: Mapping[str, str], commands: dict[str, Command]) -> None:
    """Run commands side by side, but for those that an earlier run has done.

    Args:
        work: folder of the benchmark; receives logs and marks.
        environment: variables of the commands, added to this process's.
        commands: by a name for their logs; the first word is a program beside this Python's.

    Raises:
        RuntimeError: a command failed; the message names its log.
    """
    with ThreadPoolExecutor(len(commands)) as pool:
        list(pool.map(lambda item: _run(work, {**os.environ, **environment}, *item), commands.items()))


def _run(work: Path, environment: Mapping[str, str], name: str, command: Command) -> None:
    mark, log = work / "done" / name, work / "logs" / f"{name}.log"
    if mark.is_file() and mark.read_text(encoding="utf-8") == shlex.join(command):
        return
    for folder in (mark.parent, log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    print(f"{name} ...", file=sys.stderr)
    program = str(Path(sys.executable).parent / command[0])
    with log.open("a", encoding="utf-8") as stream:
        words = (program, *command[1:])
        done = subprocess.run(words, env=environment, stdout=stream, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed with exit code {done.returncode}: see {log}")
    mark.write_text(shlex.join(command), encoding="utf-8")
