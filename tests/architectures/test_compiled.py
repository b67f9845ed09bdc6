"""nnU-Net compiles the network on a GPU; here each is compiled whole, without its kernels but for one."""

import pytest
import torch
from torch._dynamo.exc import Unsupported

from tests.architectures.baselines.test_contract import SMALLEST, FlatCase
from unetr_nnunet.architectures.networks import set_deep_supervision
from unetr_nnunet.architectures.presets import ARCHITECTURES

pytestmark = pytest.mark.slow
BROKEN_BY_MONAI = ("SegResNetDS", "SwinUNETR")
"""They compute sizes with NumPy in `forward`; nnU-Net, which allows breaks, compiles what lies between them."""


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


@pytest.mark.parametrize("name", sorted(set(SMALLEST) - set(BROKEN_BY_MONAI)))
def test_baselines_are_compiled_without_a_break(name):
    described = FlatCase(name, SMALLEST[name], 3).network()
    network = described.build(1, 3, deep_supervision=described.output_scales is not None)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    image = torch.randn(1, 1, *described.patch_size)
    results = []
    for either in (compiled, network):
        torch.manual_seed(0)  # of layers that drop paths
        results.append(logits_and_gradients(either.train(), image))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
    if described.output_scales is not None:
        set_deep_supervision(network, False)
    with torch.no_grad():
        got, expected = (either.eval()(image) for either in (compiled, network))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", BROKEN_BY_MONAI)
def test_monai_breaks_the_graph_of_some_baselines(name):
    """Should this fail, a newer MONAI or torch has mended it: then the name goes to the others."""
    described = FlatCase(name, SMALLEST[name], 3).network()
    compiled = torch.compile(described.build(1, 3), fullgraph=True, backend="aot_eager")
    with pytest.raises(Unsupported) as caught:
        compiled(torch.randn(1, 1, *described.patch_size))
    assert "monai" in str(caught.value)
