import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch.utils.flop_counter import FlopCounterMode

from tests.planning.conftest import stock_configurations
from unetr_nnunet.planning.nnunet_plan import NNUNetPlanner


@pytest.mark.parametrize(
    "dataset",
    [
        {"shape": (16, 40, 32), "spacing_mm": (3.0, 1.5, 1.5)},
        {"shape": (30, 35, 25), "spacing_mm": (1.0, 1.0, 1.0), "channel_names": {"0": "T1", "1": "T2"}},
    ],
    ids=["thick slices", "two channels"],
)
def test_patch_batch_and_operations_are_those_of_nnunets_own_plans(make_dataset, dataset):
    raw, _ = make_dataset(**dataset)
    before = sorted(raw.parent.parent.rglob("*"))
    channels = len(dataset.get("channel_names", "1"))
    ours = NNUNetPlanner("Dataset017_Abdomen", channels, 14)
    shape, voxels = dataset["shape"], 30.0 * torch.Size(dataset["shape"]).numel()
    plans = {
        "3d_fullres": ours.plan(dataset["spacing_mm"], shape, voxels),
        "2d": ours.plan(dataset["spacing_mm"][1:], shape[1:], voxels),
    }
    assert sorted(raw.parent.parent.rglob("*")) == before, "nothing is written"
    stock = stock_configurations()
    for name, plan in plans.items():
        assert plan.patch_size == tuple(stock[name]["patch_size"])
        assert plan.batch_size == stock[name]["batch_size"]
        assert plan.architecture == stock[name]["architecture"]
    assert plans["3d_fullres"].flop == counted_on_the_cpu(stock["3d_fullres"], channels, 14)


def counted_on_the_cpu(configuration, in_channels, out_channels):
    """Return the operations of a step that is really taken, with a batch of one."""
    architecture = configuration["architecture"]
    names = ("network_class_name", "arch_kwargs", "_kw_requires_import")
    words = [architecture[name] for name in names]
    network = get_network_from_plans(*words, in_channels, out_channels, deep_supervision=True)
    with FlopCounterMode(display=False) as counter:
        outputs = network(torch.zeros(1, in_channels, *(int(axis) for axis in configuration["patch_size"])))
        sum(output.mean() for output in outputs).backward()
    return configuration["batch_size"] * counter.get_total_flops()


def test_btcv_is_what_nnunet_is_known_to_plan(make_dataset):
    make_dataset()
    plan = NNUNetPlanner("Dataset017_Abdomen", 1, 14).plan((3.0, 0.76, 0.76), (130, 512, 512), 30 * 130 * 512 * 512)
    assert (plan.patch_size, plan.batch_size) == ((48, 192, 192), 2)
    # docs/reference/costs.md: 949 GFLOP forward, backward twice that, but for the first layer's input
    assert plan.flop == pytest.approx(2 * 3 * 949e9, rel=0.01)
