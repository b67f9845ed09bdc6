import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from unetr_nnunet.planning.fake_network import NoRandomNumbers, put_on


def test_parameters_and_buffers_become_fake_and_stay_shared():
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3))
    network[1].weight = network[0].weight
    network[2].weight.requires_grad_(False)
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    with FakeTensorMode():
        put_on(network, "cuda")
        assert {name: value.shape for name, value in network.state_dict().items()} == shapes
    assert all(isinstance(value, FakeTensor) for value in (*network.parameters(), *network.buffers()))
    assert {value.device.type for value in (*network.parameters(), *network.buffers())} == {"cuda"}
    assert network[1].weight is network[0].weight
    assert not network[2].weight.requires_grad


def test_no_numbers_are_drawn():
    state = torch.get_rng_state()
    with NoRandomNumbers():
        network = nn.Linear(50, 50)
        nn.init.trunc_normal_(network.weight, mean=0.3, std=0.02, a=0, b=1)  # repeats until all are within
        network.bias.data.normal_(2.0)
    assert torch.equal(torch.get_rng_state(), state)
    assert network.bias.unique().tolist() == [2.0]
