import pytest
import torch

from unetr_nnunet.inference.memory import Arrays, free_bytes

CPU = torch.device("cpu")


def test_control_group_limits(tmp_path):
    limit, usage = tmp_path / "max", tmp_path / "current"
    limit.write_text("1000\n")
    usage.write_text("400\n")
    assert free_bytes([(str(limit), str(usage))]) == 600
    usage.write_text("1400\n")
    assert free_bytes([(str(limit), str(usage))]) == 0
    limit.write_text("max\n")
    assert free_bytes([(str(limit), str(usage))]) > 2**20
    assert free_bytes([("/nowhere/max", "/nowhere/current")]) > 2**20


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
