import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unetr_nnunet.experiments import gpu_slots
from unetr_nnunet.experiments.gpu_slots import locks_folder, take_gpus, visible_gpus

HOLD = """
import os, sys
from pathlib import Path
from unetr_nnunet.experiments import gpu_slots
gpu_slots.POLL_S = 0.02
print("ready", flush=True)
names = gpu_slots.take_gpus(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(","))
line = ",".join(names)
# as a step becomes its training
os.execv(sys.executable, [sys.executable, "-c", f"import time; print({line!r}, flush=True); time.sleep(60)"])
"""
Holder = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Holder]:
    processes = []

    def begin(count: int = 1, visible: str = "0,1") -> "subprocess.Popen[str]":
        words = [sys.executable, "-c", HOLD, str(tmp_path / "gpus"), str(count), visible]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert line(process) == "ready"
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def is_free(path: Path) -> bool:
    with path.open("a") as stream, contextlib.suppress(BlockingIOError):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def test_each_gets_its_own_and_the_third_waits_until_one_is_killed(tmp_path: Path, start: Holder) -> None:
    first, second = start(), start()
    assert {line(first), line(second)} == {"0", "1"}
    assert not is_free(tmp_path / "gpus" / "gpu_0")
    third = start()
    waited: list[str] = []
    reader = threading.Thread(target=lambda: waited.append(line(third)))
    reader.start()
    reader.join(0.5)
    assert waited == [], "two GPUs are taken by what the first two processes have become"
    os.kill(second.pid, signal.SIGKILL)
    second.wait()
    reader.join(20)
    assert waited[0] in ("0", "1")
    assert first.poll() is None


def test_one_that_waits_for_several_keeps_none_from_the_others(
    tmp_path: Path, start: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert line(start(visible="0")) == "0"

    class AsleepError(Exception):
        pass

    def sleep(seconds: float) -> None:
        assert is_free(tmp_path / "gpus" / "gpu_1")
        raise AsleepError

    monkeypatch.setattr(gpu_slots.time, "sleep", sleep)
    with pytest.raises(AsleepError):
        take_gpus(tmp_path / "gpus", 2, ["0", "1"])


def test_several_for_one_training(start: Holder) -> None:
    assert line(start(2, "4,GPU-abc,6")) == "4,GPU-abc"


def test_parts_of_a_gpu_have_slots_of_their_own(tmp_path: Path, start: Holder) -> None:
    """As drivers before 470 name them: MIG-GPU-<uuid>/<GPU instance>/<compute instance>."""
    parts = ["MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0", "MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/1"]
    first, second = start(visible=",".join(parts)), start(visible=",".join(parts))
    assert {line(first), line(second)} == set(parts)
    slots = list((tmp_path / "gpus").iterdir())
    assert len(slots) == 2
    assert not any(is_free(slot) for slot in slots)


def test_more_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"2 GPUs wanted for one training, 1 here: lower --gpus-per-training"):
        take_gpus(tmp_path, 2, ["0"])


@pytest.mark.parametrize(
    ("words", "names"), [("0,1", ["0", "1"]), ("GPU-a, 3", ["GPU-a", "3"]), ("", []), ("7", ["7"])]
)
def test_the_gpus_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch, words: str, names: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", words)
    assert visible_gpus() == names


def test_all_gpus_where_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert visible_gpus() == ["0", "1", "2"]


def test_all_studies_of_a_user_share_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = locks_folder()
    monkeypatch.chdir(tmp_path)
    assert locks_folder() == here
    assert str(os.getuid()) in here.name
