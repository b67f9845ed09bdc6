import zipfile
from pathlib import Path

import pytest

from unetr_nnunet.nnunet.checkpoint_size import count_parameters


def test_as_torch_counts_them(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3), torch.nn.InstanceNorm3d(4, affine=True))
    network.add_module("again", network[0])  # as nnU-Net's decoder holds its encoder
    weights = network.state_dict() | {"parameter": torch.nn.Parameter(torch.zeros(5))}
    content = {"network_weights": weights, "current_epoch": 3, "logging": {"values": [torch.float32, {1, 2}]}}
    torch.save(content, tmp_path / "checkpoint.pth")
    expected = sum(parameter.numel() for parameter in network.parameters()) + 5
    assert count_parameters(tmp_path / "checkpoint.pth") == expected


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('ran')",))


def test_a_foreign_checkpoint_runs_nothing(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"network_weights": {"a": torch.zeros(2, 3)}, "bomb": _Bomb()}, tmp_path / "checkpoint.pth")
    assert count_parameters(tmp_path / "checkpoint.pth") == 6


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a PyTorch checkpoint"):
        count_parameters(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "nothing")
    with pytest.raises(ValueError, match="not a PyTorch checkpoint"):
        count_parameters(path)
    torch.save({"weights": {}}, path)
    with pytest.raises(ValueError, match="holds no 'network_weights'"):
        count_parameters(path)
