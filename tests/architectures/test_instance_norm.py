import pytest
import torch

from unetr_nnunet.architectures.instance_norm import instance_norm

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


def by_definition(x):
    axes = tuple(range(2, x.dim()))
    variance, mean = torch.var_mean(x, axes, keepdim=True, correction=0)
    return (x - mean) / torch.sqrt(variance + 1e-5)


@pytest.mark.parametrize("gradient_channels_last", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(
    "shape", [(1, 5, 4, 6, 7), (2, 5, 4, 6, 7), (1, 3, 8, 6), (3, 3, 8, 6), (2, 1, 4, 4, 4)], ids=str
)
def test_values_and_gradients_are_the_definitions(shape, channels_last, gradient_channels_last):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64) * 3 + 2
    gradient = torch.randn(shape, dtype=torch.float64) + 0.3
    expected_x = x.clone().requires_grad_()
    expected = by_definition(expected_x)
    expected_gradient = torch.autograd.grad(expected, expected_x, gradient)[0]
    layout = LAYOUTS[len(shape)]
    x = (x.contiguous(memory_format=layout) if channels_last else x).requires_grad_()
    got = instance_norm(x)
    torch.testing.assert_close(got, expected)
    assert got.stride() == x.stride()
    if gradient_channels_last:
        gradient = gradient.contiguous(memory_format=layout)
    torch.testing.assert_close(torch.autograd.grad(got, x, gradient)[0], expected_gradient)


@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_large_maps_stay_exact_in_float32(offset):
    torch.manual_seed(0)
    x = (torch.randn(1, 4, 96, 96, 96) + offset).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    gradient = (torch.randn(1, 4, 96, 96, 96) + 0.3).contiguous(memory_format=torch.channels_last_3d)
    got = instance_norm(x)
    got_gradient = torch.autograd.grad(got, x, gradient)[0]
    exact_x = x.detach().double().requires_grad_()
    exact = by_definition(exact_x)
    exact_gradient = torch.autograd.grad(exact, exact_x, gradient.double())[0]
    assert (got - exact).abs().max() < 2e-5
    assert (got_gradient - exact_gradient).abs().max() < 2e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(dtype):
    x = torch.randn(2, 4, 8, 8, 8).contiguous(memory_format=torch.channels_last_3d)
    got = instance_norm(x.to(dtype))
    assert got.dtype == dtype
    assert (got.float() - by_definition(x)).abs().max() < 0.05


@pytest.mark.parametrize("shape", [(1, 20, 2, 4, 4), (1, 6, 6, 5, 4), (1, 3, 8, 6), (2, 4, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("x_layout", ["contiguous", "channels last", "tokens"])
@pytest.mark.parametrize("gradient_layout", ["contiguous", "channels last", "tokens"])
def test_the_gradient_is_right_in_every_layout(shape, x_layout, gradient_layout):
    """Torch's own batch norm gets it wrong for one contiguous sample and a gradient that comes from tokens."""

    def laid_out(values, layout):
        if layout == "channels last":
            last = torch.channels_last if values.dim() == 4 else torch.channels_last_3d
            return values.contiguous(memory_format=last)
        if layout == "tokens":
            return values.flatten(2).transpose(1, 2).contiguous().transpose(1, 2).unflatten(2, values.shape[2:])
        return values

    torch.manual_seed(0)
    values, gradient = torch.randn(shape), torch.randn(shape)
    x = laid_out(values, x_layout).detach().requires_grad_()
    instance_norm(x).backward(laid_out(gradient, gradient_layout))
    exact = values.double().requires_grad_()
    torch.nn.functional.instance_norm(exact, eps=1e-5).backward(gradient.double())
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=1e-4, atol=1e-5)
