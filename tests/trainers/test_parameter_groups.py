from dataclasses import replace

import pytest
import timm
import torch
from timm.optim import param_groups_weight_decay
from torch import nn

from unetr_nnunet.architectures import registry
from unetr_nnunet.architectures.networks import network
from unetr_nnunet.trainers.parameter_groups import parameter_groups
from unetr_nnunet.trainers.recipes import RECIPES

RECIPE = replace(RECIPES["recommended"], transformer_rate=0.125)


def built(name, **changes):
    with torch.device("meta"):
        return network(name, (32, 32, 32), (1.5, 1.5, 1.5), **changes).build(1, 3)


def by_name(module, groups):
    """Return (rate, weight decay) of each parameter."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found = [
        (names[id(parameter)], (group["rate"], group["weight_decay"]))
        for group in groups
        for parameter in group["params"]
    ]
    assert len(found) == len(dict(found)) == len(names), "each parameter is in one group"
    return dict(found)


@pytest.mark.parametrize("name", ["original", "ModifiedV1", "Modified", "LocalViT", "PrimusV3"])
def test_transformer_and_tokenizer_have_a_rate_of_their_own(name):
    module = built(name)
    found = by_name(module, parameter_groups(module, registry.load(name).transformer_parameters, RECIPE))
    slow = {parameter.rsplit(".", 1)[0] for parameter, (rate, _) in found.items() if rate == 0.125}
    fast = {parameter.rsplit(".", 1)[0] for parameter, (rate, _) in found.items() if rate == 1}
    attention = {each for each in slow | fast if "attn" in each or "attention" in each or "qkv" in each}
    assert attention
    assert attention <= slow
    convolutions = {path for path, each in module.named_modules() if isinstance(each, nn.Conv3d)}
    tokenizer = {path for path in convolutions if "tokens" in path}
    assert convolutions - tokenizer <= fast
    assert not {each for each in fast if each.startswith(("transformer", "eva", "stem.projection", "stem.to_tokens"))}


def test_norms_biases_positions_and_layer_scale_are_not_decayed():
    module = built("original")
    found = by_name(module, parameter_groups(module, (), RECIPE))
    undecayed = {name for name, (_, decay) in found.items() if decay == 0}
    assert "transformer.positions" in undecayed
    assert {name for name in found if name.endswith("bias") or "norm" in name} <= undecayed
    assert {name for name in found if name.endswith("weight") and "norm" not in name} == set(found) - undecayed
    modified = built("Modified")
    found = by_name(modified, parameter_groups(modified, (), RECIPE))
    assert found["transformer.blocks.0.block.scale1"] == (1.0, 0.0)


def test_the_decay_is_timms():
    """Its models name their exceptions themselves, and ours follow the same rule."""
    model = timm.create_model("vit_tiny_patch16_224", img_size=32)
    theirs = param_groups_weight_decay(model, RECIPE.weight_decay, no_weight_decay_list=model.no_weight_decay())
    expected = {id(parameter): group["weight_decay"] for group in theirs for parameter in group["params"]}
    ours = parameter_groups(model, (), RECIPE)
    assert {id(parameter): group["weight_decay"] for group in ours for parameter in group["params"]} == expected


def test_the_rest_of_the_network_comes_first_and_no_group_is_empty():
    module = built("original")
    groups = parameter_groups(module, registry.load("original").transformer_parameters, RECIPE)
    assert [(group["rate"], group["weight_decay"]) for group in groups] == [
        (1.0, 0.05),
        (1.0, 0.0),
        (0.125, 0.05),
        (0.125, 0.0),
    ]
    assert [group["rate"] for group in parameter_groups(nn.Linear(2, 2), (), RECIPE)] == [1.0, 1.0]
    assert len(parameter_groups(nn.Conv3d(1, 1, 1, bias=False), (), RECIPE)) == 1


def test_a_compiled_network_is_grouped_as_it_is_without():
    module = built("original")
    groups = parameter_groups(torch.compile(module), registry.load("original").transformer_parameters, RECIPE)
    assert [group["rate"] for group in groups] == [1.0, 1.0, 0.125, 0.125]
