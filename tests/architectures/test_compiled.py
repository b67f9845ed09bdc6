"""nnU-Net compiles the network on a GPU; here each is compiled whole, without its kernels but for one."""

import pytest
import torch

from unetr_nnunet.architectures.presets import ARCHITECTURES

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def logits_and_gradients(network, image):
    logits = network(image)
    logits = logits if isinstance(logits, list) else [logits]
    loss = sum(scale.square().sum() for scale in logits)
    return logits, torch.autograd.grad(loss, list(network.parameters()))


def compare_training(network, compiled):
    image = torch.randn(2, 1, *network.patch_size, dtype=torch.float64)
    got, expected = (logits_and_gradients(either.train(), image) for either in (compiled, network))
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiled_without_a_break_and_equal_to_eager(build_small, architecture):
    """In training with deep supervision, then in prediction without, as nnU-Net switches."""
    network = build_small((16, 32, 32), architecture).double()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")  # fullgraph makes a graph break an error
    network.decoder.deep_supervision = True
    compare_training(network, compiled)
    network.decoder.deep_supervision = False
    image = torch.randn(2, 1, 16, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        got, expected = (either.eval()(image) for either in (compiled, network))
    assert got.shape == (2, 3, 16, 32, 32)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


def test_kernels_generated_for_a_cpu_compute_the_same(build_small):
    network = build_small((16, 16, 16)).double()
    compare_training(network, torch.compile(network, fullgraph=True))
