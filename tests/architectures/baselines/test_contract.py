"""The contract, kept by each baseline in its smallest size."""

import pytest
import torch

from unetr_nnunet.architectures.networks import patch_multiple
from unetr_nnunet.architectures.registry import OURS, load, registrations
from unetr_nnunet.testing import CHECKS, Case, cases

SMALLEST = {
    "SwinUNETR": "F24",
    "SegResNetDS": "base",
    "MedNeXt": "S",
    "PrimusV3": "S",
    "ResEnc": "base",
    "PlainConvUNet": "Tiny",
}
QUICK = ("name", "outputs", "gradients")


class FlatCase(Case):
    """A case whose patch is longer than one step along the last axis only: those of 32 voxels make large patches."""

    def patch_size(self, longer: bool = False) -> tuple[int, ...]:
        *others, last = patch_multiple(load(self.architecture), self.spacing_mm)
        return (*others, (3 if longer else 2) * last)


def checks():
    """Return every check of every baseline but that of memory, whose figures `tests.planning.test_memory` compares."""
    for name, size in SMALLEST.items():
        for case in cases(name, [size]):
            flat = FlatCase(case.architecture, case.size, case.dimensions, case.no_transformer)
            for check in CHECKS:
                if check != "memory":
                    quick = check in QUICK and (flat.dimensions == 2 or name in ("PlainConvUNet", "PrimusV3"))
                    yield pytest.param(flat, check, id=f"{flat}-{check}", marks=() if quick else pytest.mark.slow)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("case", "check"), list(checks()))
def test_baselines_keep_the_contract(case, check):
    CHECKS[check](case)


def test_every_baseline_is_checked():
    ours = {one.name for one in registrations() if one.distribution == OURS and not one.is_unetr}
    assert set(SMALLEST) == ours
