"""Write files whole or not at all: to a temporary name beside the target, then rename."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_UMASK = os.umask(0)  # reading it means setting it, which threads must not do side by side
os.umask(_UMASK)

PREFIX = ".tmp-"
_KEPT_OF_NAME = 40
"""Characters of the target's name in the temporary one, which may not be longer than a file system takes."""


def remove_leftovers(folder: Path) -> None:
    """Remove what a kill in the middle of `atomic_path` left in a folder that no other process writes to."""
    for leftover in folder.glob(f"{PREFIX}*"):
        leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``target`` when the block ends without an error.

    The temporary file lies in the target's folder (made if missing) and keeps the target's endings, so that writers
    which choose the format by file name work. On an error nothing is left behind. After a kill a hidden
    ``.tmp-*`` file may stay; the target itself is always whole or absent.

    Args:
        target: the file to write.

    Yields:
        The path to write to.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=PREFIX, suffix="-" + target.name[-_KEPT_OF_NAME:])
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(content: Any, path: Path, indent: int = 4) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent), encoding="utf-8")
