import os
import pickle
import warnings
import zipfile

import pytest
import torch

from tests.weights.monai_unetr import WINDOW, make_unetr
from unetr_nnunet.weights.checkpoint_file import read_state_dict
from unetr_nnunet.weights.torchscript_file import is_torchscript, read_torchscript


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


class Intruder:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


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
