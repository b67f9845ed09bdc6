import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from tests.inference.small_model import RESIDUAL, plans
from unetr_nnunet.inference.model_network import build_network, differing_tensors, find_trainer, quiet
from unetr_nnunet.trainers.factory import trainer_class


def build(plan, *, trust=False):
    manager = PlansManager(plan)
    configuration = manager.get_configuration("3d_fullres")
    return build_network(nnUNetTrainer, manager, configuration, 1, 4, trust=trust)


def test_trainers_of_ours_and_of_nnunet():
    assert find_trainer("nnUNetTrainerUNETR_Modified_Tiny") is trainer_class("nnUNetTrainerUNETR_Modified_Tiny")
    assert find_trainer("nnUNetTrainer") is nnUNetTrainer


def test_a_trainer_that_is_not_here():
    with pytest.raises(ValueError, match="nnUNetTrainerNowhere is not installed here: install what it comes with"):
        find_trainer("nnUNetTrainerNowhere")


@pytest.mark.parametrize("plan", [plans(), plans(network_class=RESIDUAL)])
def test_a_network_gives_logits_of_the_whole_patch(plan):
    network = build(plan)
    assert not network.training
    assert network(torch.zeros(1, 1, 16, 32, 32)).shape == (1, 4, 16, 32, 32)


def test_plans_may_name_network_parts_only():
    plan = plans(network_class="subprocess.run")
    with pytest.raises(ValueError, match=r"subprocess.run, which is no network part of .* --trust-checkpoint"):
        build(plan)
    with pytest.raises(ValueError, match="cannot be built from the plans"):
        build(plan, trust=True)


def test_differences_are_named_tensor_by_tensor():
    network = nn.Linear(3, 2)
    weights = {"weight": torch.zeros(2, 4), "extra": torch.zeros(1)}
    assert differing_tensors(network, weights) == [
        "bias is missing",
        "weight is (2, 4) where the plans make it (2, 3)",
        "extra is not in the network of the plans",
    ]
    assert differing_tensors(network, network.state_dict()) == []


def test_quiet_hides_prints_and_gives_them_back(capsys):
    with quiet():
        print("hidden")
    print("shown")
    assert capsys.readouterr().out == "shown\n"
