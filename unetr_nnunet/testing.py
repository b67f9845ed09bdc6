"""The contract of an architecture, as checks that its author runs: ``python -m unetr_nnunet.testing NAME``, or pytest.

In a test file of the package that registers it::

    import pytest
    from unetr_nnunet.testing import CHECKS, cases

    @pytest.mark.parametrize("check", CHECKS)
    @pytest.mark.parametrize("case", cases("MyNet"), ids=str)
    def test_contract(case, check):
        CHECKS[check](case)

Each check runs on the CPU on small patches. It raises a `ContractError` of one line, or returns a note.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from unetr_nnunet.architectures.networks import Network, network, patch_multiple, set_deep_supervision
from unetr_nnunet.architectures.registry import load
from unetr_nnunet.planning.measured import Training, measure_memory
from unetr_nnunet.planning.memory import UntraceableError, predict_memory
from unetr_nnunet.planning.training_step import TrainingStep
from unetr_nnunet.trainers.names import TrainerName, parse_trainer_name
from unetr_nnunet.trainers.step import optimisation_step

SPACING_MM = (3.0, 1.0, 1.0)
"""Of the cases, (Z, Y, X): slices three times as thick as their pixels."""


class ContractError(ValueError):
    """An architecture does not do what it says."""


@dataclass(frozen=True)
class Case:
    """What the checks build.

    Attributes:
        architecture: a registered name.
        size: one of its sizes.
        dimensions: 2 or 3.
        no_transformer: whether the identity is in place of every transformer block.
    """

    architecture: str
    size: str
    dimensions: int
    no_transformer: bool = False

    def __str__(self) -> str:
        control = "-NoTransformer" if self.no_transformer else ""
        return f"{self.architecture}{control}-{self.size}-{self.dimensions}D"

    def patch_size(self, longer: bool = False) -> tuple[int, ...]:
        """Return twice what a patch is a multiple of, along the last axis three times where it should be longer."""
        *others, last = patch_multiple(load(self.architecture), self.spacing_mm)
        smallest = 8 // last if last < 8 else 1  # a patch of a few voxels shows little
        return (*(2 * smallest * step for step in others), (3 if longer else 2) * smallest * last)

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Voxel spacing in mm."""
        return SPACING_MM[-self.dimensions :]

    def network(self, longer: bool = False) -> Network:
        """Return the network for the case's patch, or a longer one."""
        patch_size = self.patch_size(longer)
        return network(
            self.architecture, patch_size, self.spacing_mm, size=self.size, no_transformer=self.no_transformer
        )


def cases(name: str, sizes: Sequence[str] | None = None) -> list[Case]:
    """Return the cases of an architecture: each size in all its dimensions, and its control without transformer.

    Args:
        name: of the architecture.
        sizes: those to check; None for all.

    Raises:
        ValueError: if it is not registered.
    """
    architecture = load(name)
    controls = [False, True] if architecture.no_transformer else [False]
    chosen = architecture.sizes if sizes is None else sizes
    return [
        Case(architecture.name, size, dimensions, control)
        for size in chosen
        for dimensions in architecture.dimensions
        for control in controls
    ]


def check_name(case: Case) -> None:
    """Check that a trainer's name can be made of architecture and size, and is read back."""
    blocks = "NoTransformer" if case.no_transformer else "transformer"
    settings = TrainerName(case.architecture, blocks=blocks, size=case.size, recipe="Paper", epochs=2, seed=1)
    if parse_trainer_name(str(settings)) != settings:
        raise ContractError(f"{case}: the trainer's name {settings} is read as {parse_trainer_name(str(settings))}")


def check_outputs(case: Case) -> None:
    """Check number and shape of the outputs: several channels and outputs, deep supervision on and off, two patches."""
    for longer, in_channels, out_channels in ((False, 1, 2), (True, 3, 5)):
        described = case.network(longer)
        built = described.build(in_channels, out_channels, deep_supervision=True)
        image = _image(described, in_channels)
        for training in (True, False):
            built.train(training)
            for enabled in (True, False) if described.output_scales else (False,):
                if described.output_scales:
                    set_deep_supervision(built, enabled)
                described.check_output(_run(case, built, image), len(image), out_channels, deep_supervision=enabled)


def check_gradients(case: Case) -> None:
    """Check that every parameter gets a finite gradient, as DistributedDataParallel needs."""
    described, built = _built(case)
    outputs = _run(case, built, _image(described))
    losses = [scale.square().mean() for scale in (outputs if isinstance(outputs, list | tuple) else [outputs])]
    torch.stack(losses).sum().backward()
    wanted = {name: weight for name, weight in built.named_parameters() if weight.requires_grad}
    unused = [name for name, weight in wanted.items() if weight.grad is None]
    if unused:
        raise ContractError(f"{case}: {_some(unused)} get no gradient: several GPUs cannot train it; remove them")
    infinite = [name for name, weight in wanted.items() if not torch.isfinite(weight.grad).all()]  # type: ignore[arg-type]
    if infinite:
        raise ContractError(f"{case}: the gradients of {_some(infinite)} are not finite")


def check_learning_rates(case: Case) -> None:
    """Check that the parameters that are to learn at the transformer's rate exist."""
    beginnings = tuple(load(case.architecture).transformer_parameters)
    if not beginnings or case.no_transformer:
        return
    names = [name for name, _ in _built(case)[1].named_parameters()]
    if not any(name.startswith(beginnings) for name in names):
        raise ContractError(
            f"{case}: no parameter's name begins as transformer_parameters says, with {' or '.join(beginnings)}: the "
            f"transformer's rate would change nothing; there are {_some(names)}"
        )


def check_repeats(case: Case) -> None:
    """Check that a prediction repeats, also by a network that has loaded the weights."""
    described, built = _built(case)
    image = _image(described)
    with torch.inference_mode():
        first = _first(_run(case, built.eval(), image))
        if not _close(first, _first(_run(case, built, image))):
            raise ContractError(f"{case}: two predictions of one image differ: what is random must end with eval()")
        _, again = _built(case)
        again.load_state_dict(built.state_dict())
        if not _close(first, _first(_run(case, again.eval(), image))):
            raise ContractError(
                f"{case}: a network with the same state_dict predicts something else: it lacks a buffer"
            )


def check_half_precision(case: Case) -> None:
    """Check that logits are finite under autocast."""
    described, built = _built(case)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        if not torch.isfinite(_first(_run(case, built.eval(), _image(described)))).all():
            raise ContractError(f"{case}: logits are not finite in bfloat16")


def check_compiled(case: Case) -> str | None:
    """Check that ``torch.compile``, which nnU-Net uses on a GPU, takes the network and leaves its logits alone."""
    described, built = _built(case)
    image = _image(described)
    torch._dynamo.reset()
    with torch.no_grad():
        expected = _first(_run(case, built.eval(), image))
        try:
            compiled = torch.compile(built, backend="eager", dynamic=False)(image)
        except Exception as error:  # whatever the capture meets
            raise ContractError(f"{case}: torch.compile fails with {type(error).__name__}: {_line(error)}") from error
    if not _close(_first(compiled), expected):
        raise ContractError(f"{case}: compiled, it predicts something else")
    return None


def check_memory(case: Case) -> str | None:
    """Predict and measure the memory of a training step; return both figures, or why it cannot be predicted."""
    if case.no_transformer:
        return None
    architecture = load(case.architecture)
    token = tuple(patch_multiple(architecture, case.spacing_mm)) if architecture.has_tokens else ()
    step = TrainingStep(case.architecture, case.size, case.patch_size(), 2, case.spacing_mm, token, 1, 3)
    try:
        predicted = predict_memory(step, "cpu", None).peak
    except UntraceableError as error:
        return str(error)
    cpu = Training(torch.device("cpu"), None, partial(optimisation_step, max_norm=1.0))
    measured = measure_memory(step, cpu).allocated
    return f"predicted {predicted / 2**20:.0f} MiB, allocated {measured / 2**20:.0f} MiB"


CHECKS: Mapping[str, Callable[[Case], str | None]] = {
    "name": check_name,
    "outputs": check_outputs,
    "gradients": check_gradients,
    "learning rates": check_learning_rates,
    "repeats": check_repeats,
    "half precision": check_half_precision,
    "compiled": check_compiled,
    "memory": check_memory,
}
"""Name → check; raises a `ContractError`, or a ValueError of the part that is at fault."""


def _built(case: Case) -> tuple[Network, nn.Module]:
    torch.manual_seed(0)
    described = case.network()
    return described, described.build(1, 3, deep_supervision=True)


def _image(described: Network, channels: int = 1) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(2, channels, *described.patch_size)


def _run(case: Case, built: nn.Module, image: torch.Tensor) -> Any:
    try:
        return built(image)
    except Exception as error:  # whatever a network raises on the patch that it was built for
        raise ContractError(
            f"{case}: the network fails on the patch that it was built for, {tuple(image.shape[2:])}, with "
            f"{type(error).__name__}: {_line(error)}"
        ) from error


def _first(output: Any) -> torch.Tensor:
    first: torch.Tensor = output[0] if isinstance(output, list | tuple) else output
    return first


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-3, atol=1e-4)  # kernels depend on how memory is aligned


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def main() -> int:
    """Run all checks of an architecture and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m unetr_nnunet.testing", description="Check an architecture.")
    parser.add_argument("name", help="of a registered architecture")
    parser.add_argument("--sizes", nargs="+", metavar="NAME", help="sizes to check (default: all)")
    arguments = parser.parse_args()
    broken = 0
    try:
        chosen = cases(arguments.name, arguments.sizes)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    for case in chosen:
        for name, check in CHECKS.items():
            try:
                status, note = "ok", check(case) or ""
            except Exception as error:  # whatever a foreign network raises; the other checks still run
                kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
                status, note = "broken", kind + _line(error)
                broken += 1
            sys.stdout.write(f"{status:<7} {case!s:<30} {name:<15} {note}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
