"""Lock a folder for one run at a time, until its process ends; the lock names its owner."""

import contextlib
import datetime
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import psutil


@contextlib.contextmanager
def folder_lock(folder: Path, part: str = "") -> Iterator[tuple[int, ...]]:
    """Keep other runs out of a folder while the block runs.

    The kernel releases the lock when its process ends, however it ends; the file stays. On a file system without locks
    nothing is kept out.

    Args:
        folder: made if missing.
        part: name of a share of the work, such as "2of8"; runs with different shares may work side by side, one without
            a share is alone.

    Yields:
        The descriptors that hold the lock: a child that inherits them (``pass_fds``) holds it too.

    Raises:
        BlockingIOError: another run works there.
        OSError: the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{folder} cannot be made ({error.strerror}): choose another output folder") from error
    descriptors = []
    with contextlib.ExitStack() as held:
        kinds = [(".lock", fcntl.LOCK_SH), (f".lock-{part}", fcntl.LOCK_EX)] if part else [(".lock", fcntl.LOCK_EX)]
        for name, kind in kinds:
            stream = held.enter_context(_open(folder / name))
            try:
                fcntl.flock(stream, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                owner = _owner(stream.read().strip())
                raise BlockingIOError(
                    f"{folder} is being written by {owner}: wait for it, stop it, or choose another folder"
                ) from None
            except OSError:  # no locks on this file system
                continue
            if stream.writable():
                now = datetime.datetime.now().isoformat(" ", "seconds")
                stream.truncate(0)
                stream.write(f"process {os.getpid()} on {socket.gethostname()} since {now}\n")
                stream.flush()
            descriptors.append(stream.fileno())
        yield tuple(descriptors)


def _open(path: Path) -> TextIO:
    """Open a lock's file, made if missing; one that another user's run has left for reading, which locks as well."""
    try:
        return path.open("a+", encoding="utf-8")
    except OSError as error:
        if path.exists():
            return path.open(encoding="utf-8")
        raise OSError(f"{path.parent} cannot be written to ({error.strerror}): choose another output folder") from error


def _owner(noted: str) -> str:
    """Describe the owner of a lock; one that was killed may have left children that hold it."""
    process = re.match(r"process (\d+) on (\S+)", noted)
    if process and process[2] == socket.gethostname() and not psutil.pid_exists(int(process[1])):
        return f"what {noted} had started before it was killed"
    return noted or "another run"
