import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.weights.monai_unetr import make_unetr
from unetr_nnunet.weights.checkpoint_file import few, read_state_dict


@pytest.fixture(scope="module")
def weights():
    return make_unetr().state_dict()


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_state_dicts_bare_and_wrapped(weights, tmp_path, prefix, wrapped):
    content = {prefix + name: tensor for name, tensor in weights.items()}
    torch.save({"epoch": 3, "state_dict": content} if wrapped else content, tmp_path / "file.pth")
    assert_same(read_state_dict(tmp_path / "file.pth"), weights)


def test_a_file_of_an_old_torch(weights, tmp_path):
    torch.save(weights, tmp_path / "file.pth", _use_new_zipfile_serialization=False)
    assert_same(read_state_dict(tmp_path / "file.pth"), weights)


def test_half_precision_becomes_float32(tmp_path):
    torch.save({"w": torch.tensor([0.5, 2.0], dtype=torch.bfloat16), "n": torch.tensor([3])}, tmp_path / "file.pth")
    got = read_state_dict(tmp_path / "file.pth")
    assert got["w"].dtype == torch.float32
    assert got["w"].tolist() == [0.5, 2.0]
    assert got["n"].dtype == torch.int64


class Intruder:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_what_needs_unpickling_is_refused_and_not_run(tmp_path):
    intruded = tmp_path / "intruded"
    torch.save({"state_dict": {"w": torch.zeros(2)}, "best": Intruder(intruded)}, tmp_path / "file.pth")
    with pytest.raises(ValueError, match=r"file.pth needs unpickling of (posix|nt).mkdir, .* weights alone") as caught:
        read_state_dict(tmp_path / "file.pth")
    assert not intruded.exists()
    assert "\n" not in str(caught.value)


def test_a_plain_pickle_is_refused_and_not_run(tmp_path):
    (tmp_path / "file.pth").write_bytes(pickle.dumps(Intruder(tmp_path / "intruded")))
    with pytest.raises(ValueError, match=r"file.pth (is not a PyTorch checkpoint|needs unpickling of)"):
        read_state_dict(tmp_path / "file.pth")
    assert not (tmp_path / "intruded").exists()


def test_a_pickled_model_is_refused_by_name(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"unpickling of .*torch\.nn\.modules\.linear\.Linear"):
        read_state_dict(tmp_path / "model.pth")


def test_a_numpy_score_beside_the_weights_is_data(tmp_path):
    torch.save({"best_acc": np.float64(0.8), "state_dict": {"w": torch.ones(2)}}, tmp_path / "score.pth")
    assert_same(read_state_dict(tmp_path / "score.pth"), {"w": torch.ones(2)})


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04 no zip"], ids=["empty", "text", "zip"])
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"file.pth is not a PyTorch checkpoint, or it is damaged") as caught:
        read_state_dict(tmp_path / "file.pth")
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(weights, tmp_path):
    torch.save(weights, tmp_path / "file.pth")
    data = (tmp_path / "file.pth").read_bytes()
    (tmp_path / "file.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="damaged"):
        read_state_dict(tmp_path / "file.pth")


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.pth: there is no such file"):
        read_state_dict(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_state_dict(tmp_path)


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ({"epoch": 3, "lr": 0.1, "model": {}, "best": 1}, r"holds epoch, lr, model and 1 more, which are no tensors"),
        ([torch.zeros(2)], "holds a list"),
        ({"state_dict": {}}, "holds a dict"),
        ({0: torch.zeros(2)}, "holds a dict"),
    ],
    ids=["other entries", "list", "empty", "numbered"],
)
def test_other_content_is_named(tmp_path, content, fact):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(ValueError, match=fact):
        read_state_dict(tmp_path / "file.pth")


def test_few_names():
    assert few(["a", "b", "c"]) == "a, b, c"
    assert few(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
