import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.weights.monai_unetr import WINDOW, make_unetr
from unetr_nnunet.weights.checkpoint_file import few, is_torchscript, read_state_dict, read_torchscript


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


# ---- TorchScript ----


def save_script(module, path, *, how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # MONAI's checks of shapes
        program = torch.jit.trace(module, torch.zeros(1, 1, *WINDOW)) if how == "trace" else torch.jit.script(module)
    torch.jit.save(program, path)


@pytest.mark.parametrize(("how", "proj_type"), [("trace", "perceptron"), ("script", "conv")])
def test_tensors_are_those_that_torch_loads(tmp_path, how, proj_type):
    save_script(make_unetr(proj_type=proj_type), tmp_path / "unetr.pt", how=how)
    expected = torch.jit.load(tmp_path / "unetr.pt", map_location="cpu").state_dict()
    got = read_state_dict(tmp_path / "unetr.pt")
    scratch = {name for name in got if name.endswith((".att_mat", ".causal_mask"))}
    assert len(scratch) == (0 if how == "trace" else 24)
    got = {name: tensor for name, tensor in got.items() if name not in scratch}
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_shared_and_empty_storages(tmp_path):
    module = torch.nn.Module()
    values = torch.arange(6.0)
    module.register_buffer("rows", values.view(2, 3))
    module.register_buffer("columns", values.view(2, 3).T[1:])
    module.register_buffer("nothing", torch.zeros(0, 4))
    module.register_buffer("count", torch.tensor(7))
    torch.jit.save(torch.jit.script(module), tmp_path / "module.pt")
    got = read_torchscript(tmp_path / "module.pt")
    assert {name: tensor.tolist() for name, tensor in got.items()} == {
        "rows": [[0, 1, 2], [3, 4, 5]],
        "columns": [[1, 4], [2, 5]],
        "nothing": [],
        "count": 7,
    }
    assert got["nothing"].shape == (0, 4)


def test_a_frozen_module_is_refused(tmp_path):
    frozen = torch.jit.freeze(torch.jit.trace(torch.nn.Linear(2, 2).eval(), torch.zeros(1, 2)))
    torch.jit.save(frozen, tmp_path / "frozen.pt")
    with pytest.raises(ValueError, match=r"frozen.pt is a TorchScript archive without weights.*unfrozen"):
        read_state_dict(tmp_path / "frozen.pt")


def write_archive(path, content, **records):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/constants.pkl", b"")
        archive.writestr("model/version", b"3\n")
        if content is not None:
            archive.writestr("model/data.pkl", content)
        for name, data in records.items():
            archive.writestr(f"model/{name}", data)


def test_nothing_that_the_pickle_names_is_run(tmp_path):
    write_archive(tmp_path / "file.pt", pickle.dumps(Intruder(tmp_path / "intruded"), protocol=2))
    with pytest.raises(ValueError, match=r"needs unpickling of .*mkdir.*is refused; save the weights") as error:
        read_state_dict(tmp_path / "file.pt")
    assert not (tmp_path / "intruded").exists()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "fact"),
    [(None, "cannot be read"), (b"", "cannot be read"), (b"\x80\x02}q\x00.", "without weights")],
    ids=["none", "empty", "a dictionary"],
)
def test_archives_that_are_no_modules_are_refused(tmp_path, content, fact):
    write_archive(tmp_path / "file.pt", content)
    with pytest.raises(ValueError, match=f"file.pt is a TorchScript archive .*{fact}"):
        read_torchscript(tmp_path / "file.pt")


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as good:
        write_archive(tmp_path / "file.pt", good.read("good/data.pkl"), **{"data/0": b"\0" * 8, "data/1": b"\0" * 8})
    with pytest.raises(ValueError, match=r"file.pt is not a PyTorch checkpoint, or it is damaged"):
        read_torchscript(tmp_path / "file.pt")


def test_only_torchscript_is_taken_for_it(tmp_path):
    torch.save({"w": torch.zeros(2)}, tmp_path / "file.pth")
    (tmp_path / "text").write_text("text")
    assert not is_torchscript(tmp_path / "file.pth")
    assert not is_torchscript(tmp_path / "text")
