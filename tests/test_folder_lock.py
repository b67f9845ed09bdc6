import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from unetr_nnunet.folder_lock import folder_lock

HOLD = """
import sys, time
from pathlib import Path
from unetr_nnunet.folder_lock import folder_lock
with folder_lock(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold(tmp_path):
    """Start another process that holds the lock."""
    processes = []

    def start(part=""):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path / "out"), part], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_another_run_is_refused_with_its_owners_name_until_it_dies(tmp_path, hold):
    other = hold()
    message = rf"out is being written by process {other.pid} on \S+ since 2.*: wait for it, stop it, or choose another"
    with pytest.raises(BlockingIOError, match=message), folder_lock(tmp_path / "out"):
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    with folder_lock(tmp_path / "out"):
        assert f"process {os.getpid()} " in (tmp_path / "out" / ".lock").read_text()


LEAVE = """
import os, subprocess, sys
from pathlib import Path
from unetr_nnunet.folder_lock import folder_lock
with folder_lock(Path(sys.argv[1])) as descriptors:
    child = subprocess.Popen(["sleep", "60"], pass_fds=descriptors)
    print(child.pid, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_owner_has_left_is_told(tmp_path):
    words = [sys.executable, "-c", LEAVE, str(tmp_path / "out")]
    owner = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    child = int(owner.stdout.readline())
    owner.wait()
    message = rf"written by what process {owner.pid} on \S+ since .* had started before it was killed: wait for it"
    try:
        with pytest.raises(BlockingIOError, match=message), folder_lock(tmp_path / "out"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
    owner.stdout.close()


def test_shares_run_side_by_side_but_each_once(tmp_path, hold):
    hold("2of8")
    with folder_lock(tmp_path / "out", "3of8"):
        pass
    for part in ("2of8", ""):
        with pytest.raises(BlockingIOError, match="being written by process"), folder_lock(tmp_path / "out", part):
            pass


def test_a_file_that_another_user_has_left_locks_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with folder_lock(tmp_path):
        pass
    left = (tmp_path / ".lock").read_text()
    real = Path.open

    def open_as_another_user(path: Path, mode: str = "r", **options: Any) -> Any:
        if path.name == ".lock" and mode != "r":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, mode, **options)

    monkeypatch.setattr(Path, "open", open_as_another_user)
    with folder_lock(tmp_path) as held:
        assert len(held) == 1
        with pytest.raises(BlockingIOError), folder_lock(tmp_path):
            pass
    assert (tmp_path / ".lock").read_text() == left
