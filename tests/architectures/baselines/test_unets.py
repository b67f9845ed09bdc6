import contextlib
import io

import numpy as np
import pytest
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    nnUNetPlannerResEncL,
    nnUNetPlannerResEncM,
)
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch.utils.flop_counter import FlopCounterMode

from tests.planning.conftest import make_dataset, nnunet_plans  # noqa: F401 -- fixtures
from unetr_nnunet.architectures.networks import network

PLANNERS = {
    "PlainConvUNet": (ExperimentPlanner,),
    "ResEnc": (nnUNetPlannerResEncM, nnUNetPlannerResEncL),
}
"""Architecture → nnU-Net's planners whose plans name that network."""


def stock_configurations(planner_class):
    planner = planner_class(17)
    planner.save_plans = lambda plans: None
    with contextlib.redirect_stdout(io.StringIO()), torch.device("meta"):  # without weights, in less time
        planner.plan_experiment()
    return planner.plans["configurations"]


def stock_network(planned):
    return get_network_from_plans(
        planned["network_class_name"],
        planned["arch_kwargs"],
        planned["_kw_requires_import"],
        1,
        14,
        allow_init=False,
        deep_supervision=True,
    )


@pytest.mark.parametrize("name", PLANNERS)
def test_the_networks_are_those_that_nnunet_plans(request, name):
    request.getfixturevalue("make_dataset")()
    for planner in PLANNERS[name]:
        configurations = stock_configurations(planner)
        for kind in ("2d", "3d_fullres"):
            planned = configurations[kind]
            described = network(name, planned["patch_size"], planned["spacing"])
            with torch.device("meta"):
                ours = described.build(1, 14, deep_supervision=True)
                theirs = stock_network(planned["architecture"])
            assert {key: value.shape for key, value in ours.state_dict().items()} == {
                key: value.shape for key, value in theirs.state_dict().items()
            }
            strides = np.cumprod(planned["architecture"]["arch_kwargs"]["strides"], axis=0)[:-1]
            assert described.output_scales == tuple(map(tuple, 1 / strides)), "as in nnU-Net's trainer"


CASES = {(48, 192, 192): (3.0, 0.76, 0.76), (16, 96, 96): (3.0, 1.0, 1.0), (32, 64, 64): (4.0, 2.5, 2.5)}
MODIFIED_CASES = {
    ("base", (48, 192, 192)): (3.0, 0.76, 0.76),
    ("base", (96, 96, 96)): (1.5, 1.5, 1.5),
    ("base", (48, 48, 48)): (3.0, 3.0, 3.0),
    ("Tiny", (48, 48, 48)): (3.0, 3.0, 3.0),
}
"""What base is made for, and the study of OpenKBP: Modified has finer tokens on small patches of thick slices."""


def operations(name, size, patch, spacing_mm=None):
    with torch.device("meta"):
        built = network(name, patch, spacing_mm or CASES[patch], size=size).build(1, 14, deep_supervision=True)
        with FlopCounterMode(display=False) as counter:
            built(torch.randn(1, 1, *patch))
    return counter.get_total_flops()


@pytest.mark.parametrize("patch", CASES, ids=str)
@pytest.mark.parametrize("size", ["base", "Tiny"])
def test_sizes_that_the_original_has_compute_as_much(size, patch):
    """Patches of thick slices, as nnU-Net plans them for abdominal CT."""
    control = operations("PlainConvUNet", size, patch)
    assert control == pytest.approx(operations("original", size, patch), rel=0.2)


@pytest.mark.parametrize(("size", "patch"), MODIFIED_CASES)
def test_sizes_that_modified_has_compute_as_much(size, patch):
    """In size Tiny the U-Net has fewer operations, and takes as long: a step of OpenKBP 0.54 s, of Modified 0.52 s."""
    counts = [operations(name, size, patch, MODIFIED_CASES[size, patch]) for name in ("PlainConvUNet", "Modified")]
    assert counts[0] == pytest.approx(counts[1], rel=0.2 if size == "base" else 0.45)
