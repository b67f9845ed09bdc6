import builtins
import os
import pickle
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from tests.inference.small_model import plans
from tests.inference.stock_checkpoint import build, content
from unetr_nnunet.nnunet.checkpoint import ORIENTATIONS, load_checkpoint


@pytest.fixture(scope="module")
def stock() -> dict[str, Any]:
    torch.manual_seed(0)
    plan = plans()
    return content(build(nnUNetTrainer, plan), plan)


def saved(checkpoint: Any, path: Path, **settings: Any) -> Path:
    torch.save(checkpoint, path, **settings)
    return path


def assert_same(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(got) == list(expected)
    assert all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", ["checkpoint_final.pth", "checkpoint_best.pth"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_stock_checkpoint_loads(stock: dict[str, Any], tmp_path: Path, name: str, zipped: bool) -> None:
    path = saved(stock, tmp_path / name, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)  # torch alone refuses numpy's scalars
    loaded = load_checkpoint(path)
    assert_same(loaded.weights, stock["network_weights"])
    assert loaded.trainer_name == "nnUNetTrainer"
    assert loaded.configuration == "3d_fullres"
    assert loaded.mirror_axes == (0, 1, 2)
    assert loaded.array_orientation is None
    assert loaded.path == path


def test_a_checkpoint_written_under_numpy_1_loads(stock: dict[str, Any], tmp_path: Path) -> None:
    path, old = saved(stock, tmp_path / "new.pth"), tmp_path / "old.pth"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(old, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in data, "numpy 2 wrote it"
                data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            target.writestr(entry, data)
    # the records are no longer aligned as torch likes them, which only the memory map minds
    assert_same(load_checkpoint(old.rename(tmp_path / "checkpoint_best.pth")).weights, stock["network_weights"])


def test_our_own_entries(stock: dict[str, Any], tmp_path: Path) -> None:
    ours = stock | {
        "finished_steps": [{"loss": np.asarray(0.5, np.float32)}],
        "array_orientation": "RAS",
        "inference_allowed_mirroring_axes": None,
    }
    loaded = load_checkpoint(saved(ours, tmp_path / "file.pth"))
    assert loaded.array_orientation == "RAS"
    assert loaded.mirror_axes == ()
    assert len(ORIENTATIONS) == 48
    odd = load_checkpoint(saved(ours | {"array_orientation": "RRS"}, tmp_path / "odd.pth"))
    assert odd.array_orientation is None


def test_weights_stay_in_the_file_until_they_are_used(stock: dict[str, Any], tmp_path: Path) -> None:
    large = torch.ones(30_000_000)  # 120 MB
    path = saved(stock | {"network_weights": {"w": large}}, tmp_path / "checkpoint_final.pth")
    del large
    process = psutil.Process()
    before = process.memory_info().rss
    loaded = load_checkpoint(path)
    assert process.memory_info().rss - before < 40e6
    assert float(loaded.weights["w"][12345]) == 1


def test_a_checkpoint_that_a_training_overwrites_is_read_into_memory(stock: dict[str, Any], tmp_path: Path) -> None:
    path = saved(stock, tmp_path / "checkpoint_best.pth")
    loaded = load_checkpoint(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert_same(loaded.weights, stock["network_weights"])


# ---- files that want to run code ----


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def intruders(target: Path) -> dict[str, tuple[Call, str]]:
    return {
        "system": (Call(os.system, f"touch {target}"), r"(posix|nt)\.system"),
        "mkdir": (Call(os.mkdir, str(target)), r"(posix|nt)\.mkdir"),
        "exec": (Call(builtins.exec, f"open({str(target)!r}, 'w')"), r"(builtins|__builtin__)?\.?exec"),
        "popen": (Call(subprocess.Popen, ["touch", str(target)]), r"(subprocess|commands)\.Popen"),
        "numpy": (Call(np.asarray([1.0]).tofile, str(target)), r"(builtins|__builtin__)?\.?getattr"),
        "hub": (Call(torch.hub.load, str(target.parent), "entry", "local"), r"torch\.hub\.load"),
    }


@pytest.mark.parametrize("kind", ["system", "mkdir", "exec", "popen", "numpy", "hub"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["network_weights", "logging", "other"])
def test_code_is_refused_by_name_and_not_run(
    stock: dict[str, Any], tmp_path: Path, kind: str, zipped: bool, place: str
) -> None:
    target = tmp_path / "intruded"
    (tmp_path / "hubconf.py").write_text(f"from pathlib import Path\nPath({str(target)!r}).mkdir()\n")
    intruder, name = intruders(target)[kind]
    path = saved(stock | {place: {"w": intruder}}, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=rf"file\.pth needs unpickling of {name},? .* --trust-checkpoint") as caught:
        load_checkpoint(path)
    assert not target.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", [0, 1, 3, 4, 5])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_pickle_of_another_protocol_is_not_run(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "intruded"
    path = saved({"w": Call(os.mkdir, str(target))}, tmp_path / "file.pth", pickle_protocol=protocol)
    with pytest.raises(ValueError, match=r"file\.pth (needs unpickling of|is not a PyTorch checkpoint)"):
        load_checkpoint(path)
    assert not target.exists()


def test_all_that_is_refused_is_named(stock: dict[str, Any], tmp_path: Path) -> None:
    path = saved(stock | {"a": Call(os.getcwd), "b": Path("c")}, tmp_path / "file.pth")
    with pytest.raises(ValueError, match=r"unpickling of pathlib\S*PosixPath, posix\.getcwd, which"):
        load_checkpoint(path)


def test_a_trusted_checkpoint_is_loaded_with_its_code(stock: dict[str, Any], tmp_path: Path) -> None:
    path = saved(stock | {"note": Call(os.mkdir, str(tmp_path / "made"))}, tmp_path / "file.pth")
    assert_same(load_checkpoint(path, trust=True).weights, stock["network_weights"])
    assert (tmp_path / "made").is_dir()


def test_what_torch_may_load_elsewhere_is_left_as_it_was(stock: dict[str, Any], tmp_path: Path) -> None:
    path = saved(stock, tmp_path / "file.pth")
    with torch.serialization.safe_globals([np.dtype, Path]):
        before = set(torch.serialization.get_safe_globals())
        load_checkpoint(path)
        assert set(torch.serialization.get_safe_globals()) == before
    assert np.dtype not in torch.serialization.get_safe_globals()


# ---- files that are no checkpoints ----


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04 no zip"], ids=["empty", "text", "zip"])
@pytest.mark.parametrize("trust", [False, True])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, trust: bool) -> None:
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"file\.pth is not a PyTorch checkpoint, or it is damaged") as caught:
        load_checkpoint(tmp_path / "file.pth", trust)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(stock: dict[str, Any], tmp_path: Path, share: float) -> None:
    path = saved(stock, tmp_path / "file.pth")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=r"file\.pth is not a PyTorch checkpoint, or it is damaged"):
        load_checkpoint(path)


def test_a_damaged_pickle_is_refused_in_one_line_or_harmless(stock: dict[str, Any], tmp_path: Path) -> None:
    path, random = saved(stock, tmp_path / "file.pth"), np.random.default_rng(0)
    with zipfile.ZipFile(path) as archive:
        pickled = next(entry for entry in archive.infolist() if entry.filename.endswith("data.pkl"))
        start = path.read_bytes().index(archive.read(pickled)[:50])
    whole, reasons = path.read_bytes(), []
    for _ in range(200):
        broken = bytearray(whole)
        for _ in range(3):
            broken[start + int(random.integers(pickled.file_size))] = int(random.integers(256))
        path.write_bytes(broken)
        try:
            load_checkpoint(path)
        except ValueError as error:
            reasons.append(str(error))
    assert len(reasons) > 50
    assert all(re.fullmatch(rf"{path} (needs|is|holds) .*", reason) for reason in reasons)


@pytest.mark.parametrize(
    ("checkpoint", "fact"),
    [
        ([torch.zeros(2)], "holds a list"),
        ({"state_dict": {"w": torch.zeros(2)}}, "no entry 'network_weights'"),
        ({"network_weights": {"w": torch.zeros(2)}, "trainer_name": "nnUNetTrainer"}, "no entry 'init_args'"),
        ({"network_weights": {"w": torch.zeros(2)}, "trainer_name": "t", "init_args": {}}, "no entry 'configuration'"),
        ({"network_weights": {}, "trainer_name": "t", "init_args": {"configuration": "c"}}, "hold nothing"),
        ({"network_weights": {"w": 3}, "trainer_name": "t", "init_args": {"configuration": "c"}}, "hold w, no tensors"),
        (
            {"network_weights": 3, "trainer_name": "t", "init_args": {"configuration": "c"}},
            "is not a checkpoint of an nnU-Net v2 trainer",
        ),
        ({"network_weights": {}, "trainer_name": "t", "init_args": None}, "is not a checkpoint of an nnU-Net v2"),
    ],
)
def test_other_content_is_named(tmp_path: Path, checkpoint: Any, fact: str) -> None:
    path = saved(checkpoint, tmp_path / "file.pth")
    with pytest.raises(ValueError, match=rf"file\.pth .*{fact}"):
        load_checkpoint(path)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        load_checkpoint(tmp_path / "none.pth")
