import re
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from tests.inference.known_networks import write_known_model
from tests.inference.simulated_gpu import MIB, SimulatedGPU
from unetr_nnunet.inference.memory import Arrays, free_bytes, free_on

CPU = torch.device("cpu")


def group(folder, limit, usage, version=2):
    """Write a control group's files."""
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, usage), strict=True):
        (folder / name).write_text(f"{value}\n")


def test_the_limit_of_the_own_control_group_and_of_those_around_it(tmp_path):
    """A tree as systemd and Slurm make it; the root has no limit of its own."""
    own, root = tmp_path / "own", tmp_path / "cgroup"
    own.write_text("0::/system.slice/job_7/step_0\n")
    job, step = root / "system.slice" / "job_7", root / "system.slice" / "job_7" / "step_0"
    assert free_bytes(own, root) > 2**20
    group(step, "max", 300)
    assert free_bytes(own, root) > 2**20
    group(job, 1000, 400)
    assert free_bytes(own, root) == 600
    group(step, 500, 300)
    assert free_bytes(own, root) == 200
    group(step, 500, 700)
    assert free_bytes(own, root) == 0
    group(root / "system.slice" / "job_8", 10, 10)
    group(step, "max", 300)
    assert free_bytes(own, root) == 600


def test_control_groups_of_version_1(tmp_path):
    own, root = tmp_path / "own", tmp_path / "cgroup"
    own.write_text("5:cpu,cpuacct:/other\n4:memory,hugetlb:/slurm/job_7\n0::/\n")
    group(root / "memory" / "slurm" / "job_7", 2**63 - 4096, 400, version=1)
    group(root / "memory" / "slurm", 1000, 400, version=1)
    group(root / "memory" / "other", 10, 10, version=1)
    assert free_bytes(own, root) == 600


@pytest.mark.parametrize("name", ["/docker/3af0", "/../../outside", "/"])
def test_in_a_container_the_outermost_group_counts(tmp_path, name):
    own, root = tmp_path / "own", tmp_path / "cgroup"
    own.write_text(f"0::{name}\n")
    group(root, 1000, 400)
    group(tmp_path / "outside", 10, 10)
    assert free_bytes(own, root) == 600


def test_without_control_groups(tmp_path):
    assert free_bytes(tmp_path / "nothing", tmp_path) > 2**20
    assert free_bytes() > 2**20


def test_free_on_a_gpu(monkeypatch):
    gpu = SimulatedGPU(monkeypatch, 1000 * MIB, taken=300 * MIB)
    assert free_on(torch.device("cuda")) == free_on(torch.device("cuda", 0)) == 700 * MIB
    gpu.allocate(400 * MIB)
    assert free_on(torch.device("cuda")) == 300 * MIB
    gpu.free(100 * MIB)  # PyTorch keeps it for the next array
    assert free_on(torch.device("cuda")) == 400 * MIB
    gpu.share = 0.5
    assert free_on(torch.device("cuda")) == 200 * MIB
    gpu.share = 0.2
    assert free_on(torch.device("cuda")) == 0
    monkeypatch.delattr(torch.cuda, "get_per_process_memory_fraction")  # an older PyTorch
    assert free_on(torch.device("cuda")) == 400 * MIB


def test_free_on_a_cpu_is_main_memory(monkeypatch):
    monkeypatch.setattr("unetr_nnunet.inference.memory.free_bytes", lambda: 12345)
    assert free_on(CPU) == 12345


def test_arrays_in_memory_where_there_is_enough():
    arrays = Arrays(100, free=1000)
    assert not arrays.in_files
    assert arrays.zeros((2, 3), torch.float16, CPU).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_arrays_in_files_work_alike_and_leave_nothing(tmp_path):
    arrays = Arrays(1000, tmp_path, free=1000)
    assert arrays.in_files
    array = arrays.zeros((2, 3, 4), torch.float32, CPU)
    assert array.shape == (2, 3, 4)
    assert not array.any()
    array[1] += 2.5
    assert float(array.sum()) == 30
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_at_once(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        Arrays(1000, tmp_path, free=1000).zeros((2, 3, 4), torch.float32, CPU)
    assert list(tmp_path.iterdir()) == []


ULIMIT = """
import logging, resource, sys
import psutil
from unetr_nnunet.inference.memory import free_bytes
from unetr_nnunet.inference.prediction import predict_folder
logging.basicConfig(level=logging.INFO)
warm, source, output, model, room = sys.argv[1:]
predict_folder(warm, output + "-warm", [model])  # imports, threads and their stacks
limit = psutil.Process().memory_info().vms + int(room) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
assert free_bytes() <= int(room) * 2**20
for case, _, reason in predict_folder(source, output, [model]).failed:
    print(reason)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("room_mib", "enough"), [(2000, True), (400, True), (30, False)])
def test_a_process_that_may_not_have_more_memory(room_mib, enough, tmp_path):
    """An image of 10 million voxels, after a small one."""
    for name, shape in (("warm", (20, 50, 50)), ("in", (40, 500, 500))):
        voxels = np.full(shape, -1000, np.int16)
        voxels[:, 10:40, 10:40] = 40
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing((0.8, 0.8, 3.0))
        (tmp_path / name).mkdir()
        sitk.WriteImage(image, str(tmp_path / name / "ct.nii.gz"))
    tissue = ((0, 0, 0), (1, 0, 5), (-9, 0, -99), (-9, 0, -99))  # above -500 HU
    model = write_known_model(tmp_path / "model", [tissue], mirror_axes=None, spacing=(3.0, 1.6, 1.6))
    words = [str(tmp_path / "warm"), str(tmp_path / "in"), str(tmp_path / "out"), str(model), str(room_mib)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ULIMIT, *words], capture_output=True, text=True, check=True
    )
    if enough:
        assert done.stdout == ""
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "ct.nii.gz")))
        assert np.count_nonzero(mask[:, 12:38, 12:38]) == 40 * 26 * 26
        return
    assert re.fullmatch(r"it needs about 0\.\d+ GiB of memory and 0\.\d+ GiB are free: give .*\n", done.stdout), done
    assert not (tmp_path / "out" / "ct.nii.gz").exists()
