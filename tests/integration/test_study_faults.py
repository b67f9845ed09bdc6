"""A study whose disk fills up while it trains: a real, small file system that is made larger afterwards."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import shorten_epochs

pytestmark = pytest.mark.slow

TRAINER = "nnUNetTrainerUNETR_Modified_Tiny_NoAug_1epochs_seed0"
# a file system of its own, in a namespace that ends with the shell: DATA, its size in MiB, where it lies, a command
SCRIPT = """
data=$1 mib=$2 disk=$3
shift 3
mount -t tmpfs -o "size=${mib}m" tmpfs "$disk" && cp -r "$data"/. "$disk" || exit 99
cd "$disk"
"$@" > "$disk.full" 2>&1 && exit 98
df "$disk" > "$disk.df"
mount -o remount,size=2g "$disk"
"$@" > "$disk.room" 2>&1 || exit 97
cp -r "$disk/study/tables.md" "$disk.tables" && ls -A nnUNet_results/*/*/fold_0 > "$disk.files"
"""


def can_mount() -> bool:
    words = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        shutil.which("unshare") is not None and not subprocess.run(words, capture_output=True, check=False).returncode
    )


@pytest.mark.skipif(not can_mount(), reason="may not mount a file system here")
def test_disk_full_in_a_training(
    blobs: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_epochs(monkeypatch, 40)
    disk = tmp_path_factory.mktemp("full") / "disk"
    disk.mkdir()
    used = sum(path.stat().st_size for path in blobs.rglob("*") if path.is_file()) / 2**20
    command = [str(Path(sys.executable).parent / "unetr_nnunet"), "crossval", "-d", "917", "-tr", TRAINER]
    command += ["--folds", "0", "--device", "cpu", "--cores", "1"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    environment |= {"UNETR_NNUNET_CHECKPOINT_MINUTES": "0.01", "OMP_NUM_THREADS": "1"}
    for name in ("raw", "preprocessed", "results"):
        environment[f"nnUNet_{name}"] = str(disk / f"nnUNet_{name}")
    words = ["unshare", "-m", "sh", "-c", SCRIPT, "sh", str(blobs), str(round(used + 12)), str(disk), *command]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=1500, check=False)
    first, second = (disk.with_name(f"disk.{name}") for name in ("full", "room"))
    said = first.read_text() if first.is_file() else ""
    assert done.returncode == 0, f"{done.returncode} {done.stderr}\n{said}\n{second.is_file() and second.read_text()}"
    assert f"train {TRAINER}" in said, "the step is named"
    assert "MiB free there" in said, "the reason is told"
    assert "log: " in said
    assert TRAINER.removesuffix("_seed0") in disk.with_name("disk.tables").read_text()
    files = disk.with_name("disk.files").read_text().split()
    assert "checkpoint_final.pth" in files
    assert not [name for name in files if name.startswith(".tmp-")]
