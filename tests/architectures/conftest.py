import pytest
import torch

from unetr_nnunet.architectures import presets
from unetr_nnunet.architectures.build import build_unetr

MODERN = presets.ModernViTSize(width=12, layers=4, heads=2, mlp_width=16, drop_path=0.0)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small tensors gain nothing from threads, and on a busy machine they lose much by waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def build_small(monkeypatch):
    """Build a network of a few thousand parameters."""
    small = presets.UNETRSize(
        width=24, layers=4, heads=2, mlp_width=24, feature_size=4, fpn_channels=6, modern_vit=MODERN
    )
    monkeypatch.setitem(presets.SIZES, "small", small)

    def build(patch_size, architecture="original", spacing_mm=None, **changes):
        torch.manual_seed(0)
        arguments = {"in_channels": 1, "out_channels": 3, "size": "small", "architecture": architecture} | changes
        return build_unetr(patch_size, spacing_mm, **arguments)

    return build
