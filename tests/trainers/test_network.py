import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from unetr_nnunet.trainers.names import parse_trainer_name
from unetr_nnunet.trainers.network import build_named_network


def configuration(**architecture):
    described = {"network_class_name": "other", "arch_kwargs": {}, "_kw_requires_import": []} | architecture
    return ConfigurationManager({"patch_size": [32, 32, 32], "spacing": [1.5, 1.5, 1.5], "architecture": described})


def test_name_and_plans_decide():
    image = torch.zeros(1, 1, 32, 32, 32)
    name = parse_trainer_name("nnUNetTrainerUNETR_FPN_Tiny")
    assert [scale.shape[1] for scale in build_named_network(name, configuration(), 1, 5)(image)][:2] == [5, 5]
    assert build_named_network(name, configuration(), 1, 5, False)(image).shape == (1, 5, 32, 32, 32)
    planned = configuration(
        network_class_name="unetr_nnunet.architectures.build.build_unetr", arch_kwargs={"size": "base"}
    )
    count = [
        sum(weight.numel() for weight in build_named_network(name, each, 1, 5).parameters())
        for each in (configuration(), planned)
    ]
    assert count[0] < count[1] / 5
