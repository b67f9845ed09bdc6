"""``run.json``: what it takes to tell, and to repeat, how label maps were made."""

import contextlib
import datetime
import json
import platform
import resource
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.images.files import hash_file, in_utf8
from unetr_nnunet.inference.memory import GIB

PACKAGES = ("unetr_nnunet", "nnunetv2", "torch", "numpy", "SimpleITK", "openvino")
"""Whose versions are noted, of those that are installed."""


class RunRecord:
    """One run: versions, command, models with hashes, settings, and each case's seconds, peak memory and files.

    The file is rewritten after each case. A run that resumes another adds itself to the runs in the file.

    Args:
        path: the file.
        models: folders by model, as they were given; every checkpoint and JSON file of the folds that are used.
        settings: devices and options.
        resume: whether to keep the runs that are in the file already.
    """

    def __init__(
        self, path: Path, models: Mapping[str, Sequence[Path]], settings: Mapping[str, Any], resume: bool = False
    ) -> None:
        self.path, self._lock = path, threading.Lock()
        self._earlier: list[dict[str, Any]] = _runs(path) if resume else []
        self._run: dict[str, Any] = {
            "started": _now(),
            "command": [in_utf8(word) for word in sys.argv],
            "versions": {"Python": platform.python_version(), **_versions()},
            "models": [
                {"given": in_utf8(name), "sha256": {in_utf8(str(file)): hash_file(file) for file in files}}
                for name, files in models.items()
            ],
            "settings": dict(settings),
            "cases": [],
        }

    def add(self, case: str, seconds: float, files: Sequence[Path], engines: Sequence[str]) -> None:
        """Note a case that is written.

        Args:
            case: its name.
            seconds: from the start of its prediction to the end of its writing.
            files: that may have been written of it; those that are there are noted.
            engines: what ran the networks.
        """
        peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        entry = {
            "case": in_utf8(case),
            "seconds": round(seconds, 2),
            "peak_memory_gib_so_far": round(peak_bytes / GIB, 2),
            "engines": list(engines),
            "files": [in_utf8(file.name) for file in files if file.exists()],
        }
        with self._lock:
            self._run["cases"].append(entry)
            self._write()

    def finish(self, failed: Sequence[Sequence[str]]) -> None:
        """Note the end of the run.

        Args:
            failed: case, file and reason of each case that could not be done.
        """
        with self._lock:
            self._run["failed"] = [{"case": case, "reason": reason} for case, _, reason in failed]
            self._run["finished"] = _now()
            self._write()

    def _write(self) -> None:
        with atomic_path(self.path) as temporary:
            temporary.write_text(json.dumps({"runs": [*self._earlier, self._run]}, indent=1), encoding="utf-8")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _runs(path: Path) -> list[dict[str, Any]]:
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["runs"])
    except (OSError, ValueError, KeyError, TypeError):  # none, or damaged: it says nothing of this run
        return []


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
