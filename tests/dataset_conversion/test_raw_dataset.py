"""Kills and full disks: the conversion ends as if nothing had happened, or leaves nothing half written."""

import json
import os
import signal
import subprocess
import sys
from collections import namedtuple
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from tests.dataset_conversion.conversions import conversion_of
from unetr_nnunet.dataset_conversion import raw_dataset
from unetr_nnunet.dataset_conversion.conversion import convert

# For each (N, output, words): runs the command in a process that kills itself at the N-th change below the output
# folder, as seen by the interpreter's audit hook. One interpreter forks them all, to import the package only once.
KILLED_RUNS = """
import json, os, signal, sys
from unetr_nnunet.cli.main import main
import unetr_nnunet.dataset_conversion.sources.btcv

def run_and_die(remaining, output, words):
    def hook(event, arguments):
        nonlocal remaining
        changes = event in ("os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir") or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if changes and any(str(argument).startswith(output) for argument in arguments[:2]):
            remaining -= 1
            if remaining < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    os._exit(main(["convert", "btcv", *words, "--link", "copy", "--output", output, "--workers", "1"]))

signals = []
for remaining, output, words in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        run_and_die(remaining, output, words)
    signals.append(os.WTERMSIG(os.waitpid(child, 0)[1]))
print(json.dumps(signals))
"""


def run_and_kill(*runs):
    """Take (change, output, words) of each run, and check that each was really killed."""
    listed = json.dumps([(change, str(output), [str(word) for word in words]) for change, output, words in runs])
    command = [sys.executable, "-c", KILLED_RUNS, listed]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [signal.SIGKILL] * len(runs), done.stderr


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def source(btcv_tree):
    """A small download with one label that has to be rewritten."""
    btcv_tree.write(btcv_tree.label_path(2), btcv_tree.label_voxels(2).astype(np.float32))
    return btcv_tree


@pytest.fixture
def conversion(source, tmp_path):
    return conversion_of("btcv", source.raw, tmp_path / "raw", link="copy")


@pytest.mark.parametrize("as_zip", [False, True])
def test_killed_at_several_points_and_run_again(as_zip, source, conversion, tmp_path):
    conversion = replace(conversion, source=source.zip() if as_zip else source.raw)
    undisturbed = contents(convert(replace(conversion, raw_root=tmp_path / "undisturbed")).folder)
    outputs = {change: tmp_path / f"killed_{change}" for change in (0, 1, 2, 4, 5, 7, 10, 13, 16, 19, 22, 25, 28, 31)}
    run_and_kill(*((change, output, [conversion.source]) for change, output in outputs.items()))
    states = set()
    for output in outputs.values():
        left = {name for name in contents(output) if ".tmp-" not in name}
        assert "Dataset017_BTCV/dataset.json" not in left
        states.add(len(left))
        report = convert(replace(conversion, raw_root=output))
        assert contents(report.folder) == undisturbed
    assert len(states) > 5, "the kills did not hit different stages"


def test_killed_many_times_in_a_row(source, conversion, tmp_path):
    undisturbed = contents(convert(replace(conversion, raw_root=tmp_path / "undisturbed")).folder)
    run_and_kill(*[(9, conversion.raw_root, [source.raw])] * 3)
    assert convert(conversion).continued
    assert contents(conversion.folder) == undisturbed


def test_killed_while_overwriting(source, conversion, tmp_path):
    outputs = {change: tmp_path / f"killed_{change}" for change in (1, 4, 8, 12, 20)}
    for output in outputs.values():
        convert(replace(conversion, raw_root=output))
    source.write(source.label_path(21), np.minimum(source.label_voxels(21), 6))
    run_and_kill(*((change, output, [source.raw, "--overwrite"]) for change, output in outputs.items()))
    for output in outputs.values():
        folder = output / conversion.folder.name
        assert not (folder / "dataset.json").exists()
        convert(replace(conversion, raw_root=output, overwrite=True))
        assert (folder / "labelsTr" / "BTCV_0021.nii.gz").read_bytes() == source.label_path(21).read_bytes()


def test_an_unfinished_conversion_of_other_settings_is_not_continued(source, conversion):
    run_and_kill((14, conversion.raw_root, [source.raw]))
    source.write(source.label_path(21), np.minimum(source.label_voxels(21), 6))
    with pytest.raises(FileExistsError, match="unfinished conversion of another source"):
        convert(conversion)


def test_cut_off_copies_are_made_again(source, conversion):
    """What a power failure can leave: a renamed file without its content."""
    folder = convert(conversion).folder
    undisturbed = contents(folder)
    (folder / "dataset.json").unlink()
    (folder / "imagesTr" / "BTCV_0001_0000.nii.gz").write_bytes(b"")
    (folder / "labelsTr" / "BTCV_0002.nii.gz").write_bytes(b"")
    assert convert(conversion).continued
    assert contents(folder) == undisturbed


def test_too_little_space_is_seen_before_writing(conversion, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(raw_dataset.shutil, "disk_usage", lambda path: usage(10, 5, 5))
    with pytest.raises(OSError, match=r"only 0.00 GiB.*--output"):
        convert(conversion)
    assert not conversion.raw_root.exists()


@contextmanager
def mounted_tmpfs(folder, size):
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_disk_that_fills_up_while_writing(source, conversion, tmp_path, monkeypatch):
    for number in (3, 4, 5, 6, 7, 8):
        shape_zyx = (20, 32, 32)
        source.write(source.label_path(number), np.zeros(shape_zyx, np.uint8))
        noise = np.random.default_rng(number).integers(-1000, 1000, shape_zyx).astype(np.int16)
        source.write(source.image_path(number), noise)
    undisturbed = contents(convert(conversion).folder)
    small = replace(conversion, raw_root=tmp_path / "small")
    monkeypatch.setattr(raw_dataset, "FREE_SPACE_MARGIN_BYTES", -(1 << 30))
    with mounted_tmpfs(small.raw_root, "140k"):
        with pytest.raises(OSError, match=r"disk is full.*it continues"):
            convert(small)
        left = contents(small.folder)
        assert 1 < len(left) < len(undisturbed)
        assert left == {name: undisturbed[name] for name in left}
        subprocess.run(["mount", "-o", "remount,size=4m", str(small.raw_root)], check=True)
        assert convert(small).continued
        assert contents(small.folder) == undisturbed


def test_falls_back_to_copies_where_links_are_forbidden(source, conversion, monkeypatch):
    def forbidden(self, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(raw_dataset.Path, "hardlink_to", forbidden)
    folder = convert(replace(conversion, link="auto")).folder
    target = folder / "imagesTr" / "BTCV_0001_0000.nii.gz"
    assert target.read_bytes() == source.image_path(1).read_bytes()
    assert not target.samefile(source.image_path(1))


def test_hard_links_to_the_file_behind_a_symbolic_link(source, conversion):
    path = source.image_path(1)
    real = path.rename(source.root / "annexed.bin")
    path.symlink_to(real)
    folder = convert(replace(conversion, link="hard")).folder
    target = folder / "imagesTr" / "BTCV_0001_0000.nii.gz"
    assert target.samefile(real)
    assert not target.is_symlink()
