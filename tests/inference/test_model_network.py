import json
import subprocess
import sys

import pytest
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from tests.inference.small_model import RESIDUAL, plans
from unetr_nnunet.architectures.planned import PLANNED_NETWORK, architecture_entry
from unetr_nnunet.inference.model_network import build_network, differing_tensors, quiet
from unetr_nnunet.trainers.factory import trainer_class


def build(plan, trainer="nnUNetTrainer", *, trust=False):
    manager = PlansManager(plan)
    configuration = manager.get_configuration("3d_fullres")
    return build_network(trainer, manager, configuration, 1, 4, trust=trust)


@pytest.mark.parametrize("trainer", ["nnUNetTrainerNoDA", "nnUNetTrainerBN", "nnUNetTrainerUNETR_Modified_Tiny"])
def test_the_network_is_the_one_that_the_trainer_builds(trainer):
    manager = PlansManager(plans())
    found = recursive_find_trainer_class_by_name if "UNETR" not in trainer else trainer_class
    theirs = found(trainer).build_network_architecture(manager, manager.get_configuration("3d_fullres"), 1, 4, False)
    ours = build(plans(), trainer)
    assert str(ours) == str(theirs.eval())
    ours.load_state_dict(theirs.state_dict())
    image = torch.rand(1, 1, 16, 32, 32)
    assert torch.equal(ours(image), theirs(image))  # the buffers that no state dict holds are the same, too


def test_a_trainer_that_is_not_here():
    with pytest.raises(ValueError, match="nnUNetTrainerNowhere is not installed here: install what it comes with"):
        build(plans(), "nnUNetTrainerNowhere")


def test_no_trainer_is_imported():
    script = """if True:
        import json, sys
        from unetr_nnunet.inference import folder, model_network
        manager = model_network.PlansManager(json.loads(sys.argv[1]))
        for trainer in "nnUNetTrainer", "nnUNetTrainer_5epochs", "nnUNetTrainerUNETR_Tiny":
            model_network.build_network(trainer, manager, manager.get_configuration("3d_fullres"), 1, 4)
        slow = {"torch._dynamo", "matplotlib", "batchgeneratorsv2"} & set(sys.modules)
        assert not slow, slow
    """
    subprocess.run([sys.executable, "-c", script, json.dumps(plans())], check=True)


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


MINE = """
from unetr_nnunet.trainers.names import TrainerName
from unetr_nnunet.trainers.unetr_trainer import nnUNetTrainerUNETR

class nnUNetTrainerMine(nnUNetTrainerUNETR):
    settings = TrainerName("FPN", size="Tiny", seed=3)
"""


def planned(**entry):
    plan = plans()
    plan["configurations"]["3d_fullres"]["architecture"] = entry
    return plan


@pytest.mark.parametrize("named", ["unetr_nnunet.architectures.build.build_unetr", PLANNED_NETWORK])
def test_a_subclass_of_ours_on_our_plans(named, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    kwargs = {"token_size": [8, 8, 8]}
    plan = planned(network_class_name=named, arch_kwargs=kwargs, _kw_requires_import=[])
    network = build(plan, "nnUNetTrainerMine")
    assert type(network.decoder).__name__ == "FPN"
    assert network(torch.zeros(1, 1, 16, 32, 32)).shape == (1, 4, 16, 32, 32)


def test_another_packages_network_and_its_version(otherlab, caplog):
    entry = architecture_entry("Pyramid")
    assert build(planned(**entry), "nnUNetTrainerNet_Pyramid")(torch.zeros(1, 1, 16, 32, 32)).shape[1] == 4
    assert caplog.text == ""
    entry["arch_kwargs"]["version"] = "0.9"
    build(planned(**entry), "nnUNetTrainerNet_Pyramid")
    assert "Pyramid was of otherlab 0.9 when this was planned, and is of otherlab 1.2 now" in caplog.text


def test_a_package_that_is_not_installed_is_named():
    kwargs = {"architecture": "Gone", "package": "lostlab", "version": "3.1"}
    plan = planned(network_class_name=PLANNED_NETWORK, arch_kwargs=kwargs, _kw_requires_import=[])
    with pytest.raises(ValueError, match=r"Gone comes from the package lostlab 3\.1, which is not installed: pip"):
        build(plan, "nnUNetTrainerNet_Gone")


def test_plans_cannot_give_a_builder_anything_else(otherlab):
    entry = architecture_entry("Pyramid", width=10**6)
    with pytest.raises(ValueError, match="the plans hold width, which Pyramid"):
        build(planned(**entry), "nnUNetTrainerNet_Pyramid")
