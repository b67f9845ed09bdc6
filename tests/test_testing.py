import subprocess
import sys

import pytest
import torch
from torch import nn

from tests.conftest import install_package
from unetr_nnunet.architectures import registry
from unetr_nnunet.testing import CHECKS, Case, ContractError, cases


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ours():
    """Return every check of every variant; only those of the two whole networks are quick enough for each run."""
    for case in [case for name in registry.unetr_names() for case in cases(name, ["Tiny"])]:
        for check in CHECKS:
            always = case.architecture in ("original", "Modified") and check not in ("compiled", "memory")
            yield pytest.param(case, check, id=f"{case}-{check}", marks=() if always else pytest.mark.slow)


@pytest.mark.parametrize(("case", "check"), list(ours()))
def test_ours_keep_the_contract(case, check):
    CHECKS[check](case)


def test_cases_are_all_sizes_dimensions_and_the_control(otherlab):
    assert list(map(str, cases("pyramid"))) == [
        "Pyramid-base-2D",
        "Pyramid-base-3D",
        "Pyramid-Slim-2D",
        "Pyramid-Slim-3D",
    ]
    assert list(map(str, cases("FPN", ["Tiny"]))) == [
        "FPN-Tiny-2D",
        "FPN-NoTransformer-Tiny-2D",
        "FPN-Tiny-3D",
        "FPN-NoTransformer-Tiny-3D",
    ]
    assert Case("Line", "base", 3).patch_size() == (16, 32, 32)
    assert Case("Line", "base", 3).patch_size(longer=True) == (16, 32, 48)


def test_the_command_tells_what_another_packages_networks_do(otherlab):
    def run(*words):
        command = [sys.executable, "-W", "ignore", "-m", "unetr_nnunet.testing", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run("Pyramid", "--sizes", "Slim")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", f"Pyramid-Slim-{dimensions}D"] for dimensions in (2, 3) for _ in CHECKS
    ]
    assert "MiB, allocated" in lines[-1]
    done = run("Opaque")
    assert done.returncode == 0, "what cannot be traced is noted"
    assert "cannot be predicted" in done.stdout
    done = run("Nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no architecture 'Nowhere'" in done.stderr


BROKEN = """
import torch
from torch import nn
from unetr_nnunet.architectures.architecture import Architecture

class Net(nn.Module):
    def __init__(self, patch, outputs):
        super().__init__()
        self.patch = patch
        self.used = nn.Conv3d(1, outputs, 1)
        {constructor}

    def forward(self, image):
        {forward}

NET = Architecture(
    "Broken", lambda in_channels, out_channels, patch_size, spacing_mm: Net(patch_size, out_channels),
    lambda spacing_mm: (8, 8, 8), {{"base": {{}}}}, "me", dimensions=(3,), transformer_parameters=("blocks.", "stem."),
)
"""


@pytest.mark.parametrize(
    ("constructor", "forward", "check", "message"),
    [
        ("", "return self.used(image[:, :1])[..., :16]", "outputs", r"Broken .* returns \(2, 5, 16, 16, 16\)"),
        ("", "return self.used(image)", "outputs", "fails on the patch that it was built for, .*RuntimeError"),
        ("self.spare = nn.Linear(3, 3)", "return self.used(image)", "gradients", "spare.weight, spare.bias get no gra"),
        ("", "return torch.sqrt(self.used(image) * 0)", "gradients", "the gradients of used.weight, used.bias are not"),
        ("", "return self.used(image + torch.randn(()))", "repeats", "two predictions of one image differ"),
        ("", "return self.used(image) / 0", "half precision", "logits are not finite"),
        (
            "self.spare = nn.Linear(3, 3)",
            "return self.used(image)",
            "learning rates",
            "begins as transformer_parameters says, with blocks. or stem.: .*; there are used.weight, used.bias, spare",
        ),
    ],
)
def test_what_breaks_the_contract_is_told_in_one_line(
    tmp_path, monkeypatch, forget_architectures, constructor, forward, check, message
):
    install_package(tmp_path, monkeypatch, "brokenlab", "0.1", {"Broken": "brokenlab:NET"})
    (tmp_path / "brokenlab.py").write_text(BROKEN.format(constructor=constructor or "pass", forward=forward))
    monkeypatch.delitem(sys.modules, "brokenlab", raising=False)
    registry.registrations.cache_clear()
    case = Case("Broken", "base", 3)
    with pytest.raises(ValueError, match=message) as caught:
        CHECKS[check](case)
    assert "\n" not in str(caught.value)


def test_a_compiler_that_fails_is_told(otherlab, monkeypatch):
    def failing(*given, **options):
        raise RuntimeError("cannot capture")

    monkeypatch.setattr(torch, "compile", failing)
    with pytest.raises(ContractError, match=r"Line-base-3D: torch\.compile fails with RuntimeError: cannot capture"):
        CHECKS["compiled"](Case("Line", "base", 3))


def test_a_network_that_changes_when_it_is_compiled_is_told(otherlab, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network, **options: nn.Conv3d(1, 3, 1))
    with pytest.raises(ContractError, match="compiled, it predicts something else"):
        CHECKS["compiled"](Case("Line", "base", 3))
