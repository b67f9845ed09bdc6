import pytest
import torch

from unetr_nnunet.planning.backward import run_backward
from unetr_nnunet.planning.training_step import TrainingStep, forward_and_loss

PATCH = (16, 32, 32)


def step_of(architecture):
    return TrainingStep(architecture, "Tiny", PATCH, 2, (2.0, 1.0, 1.0), (4, 8, 8), 1, 3)


@pytest.fixture(params=["original", "Modified"])
def loss_and_network(request):
    torch.manual_seed(0)
    step = step_of(request.param)
    network = step.build_network()
    data, target = step.make_batch(torch.device("cpu"))
    data.normal_()
    return forward_and_loss(network, step.build_loss(), data, target, None)[1], network


def test_the_gradients_are_those_of_torchs_engine(loss_and_network):
    loss, network = loss_and_network
    parameters = dict(network.named_parameters())
    expected = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
    ours = {}
    run_backward(loss, lambda: None, lambda leaf, gradient: ours.__setitem__(leaf, gradient))
    for (name, parameter), gradient in zip(parameters.items(), expected, strict=True):
        if gradient is None:
            assert parameter not in ours, name
        else:
            torch.testing.assert_close(ours[parameter], gradient, msg=name)


def test_each_node_is_finished_before_the_next_begins():
    calls = []
    weight = torch.ones(3, requires_grad=True)

    def pack(tensor):
        calls.append("saved")
        return tensor

    def unpack(tensor):
        calls.append("used")
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        loss = (weight.sin() * weight.cos()).sum()  # sin and cos save one tensor, the product two
    run_backward(loss, lambda: calls.append("finished"), lambda leaf, gradient: calls.append("leaf"))
    after = " ".join(calls[calls.index("finished") :])
    assert after == "finished used used finished used finished used finished leaf"


def test_a_broadcast_result_and_a_half_precision_one_get_gradients_of_their_shape_and_type():
    gate = torch.full((2, 1), 2.0, requires_grad=True)
    image = torch.ones(2, 5, dtype=torch.float64, requires_grad=True)
    loss = (gate.double() * image * image.float()).sum().float()
    gradients = {}
    run_backward(loss, lambda: None, lambda leaf, gradient: gradients.__setitem__(leaf, gradient))
    assert torch.equal(gradients[gate], torch.full((2, 1), 5.0))
    assert torch.equal(gradients[image], torch.full((2, 5), 4.0, dtype=torch.float64))


def test_what_gets_no_gradient_has_none():
    class First(torch.autograd.Function):
        @staticmethod
        def forward(ctx, first, second):
            return first * 3

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 3, None

    used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    gradients = {}
    run_backward(
        First.apply(used * 2, unused * 2).sum(),
        lambda: None,
        lambda leaf, gradient: gradients.__setitem__(leaf, gradient),
    )
    assert list(gradients) == [used]
    assert torch.equal(gradients[used], torch.full((2,), 6.0))
