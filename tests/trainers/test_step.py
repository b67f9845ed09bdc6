from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from unetr_nnunet.trainers.step import optimisation_step

Loss = Callable[[Any, Any], torch.Tensor]


def mean_square(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (output - target).square().mean()


def infinite_with_finite_gradients(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return mean_square(output, target) + torch.inf


def infinite_gradients(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Finite itself: the derivative of a square root at zero is infinite."""
    return (0 * output).sum().sqrt()


def nan(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return output.sum() * torch.nan


class Training:
    """A small network and what a step needs."""

    def __init__(self, *, fused: bool = True, scaled: bool = False) -> None:
        torch.manual_seed(0)
        self.network = nn.Linear(3, 2)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.1, fused=fused)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0) if scaled else None

    def step(self, loss: Loss = mean_square, max_norm: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        data, target = torch.arange(12.0).reshape(4, 3), torch.ones(4, 2)
        return optimisation_step(
            self.network, loss, self.optimizer, data, target, max_norm=max_norm, scaler=self.scaler
        )


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_a_step_is_that_of_torch(fused: bool, scaled: bool) -> None:
    training, plain = Training(fused=fused, scaled=scaled), Training(fused=False)
    for _ in range(3):
        loss, norm = training.step()
        plain.optimizer.zero_grad()
        expected = mean_square(plain.network(torch.arange(12.0).reshape(4, 3)), torch.ones(4, 2))
        expected.backward()
        gradients = torch.cat([parameter.grad.flatten() for parameter in plain.network.parameters()])
        nn.utils.clip_grad_norm_(plain.network.parameters(), 1.0)
        plain.optimizer.step()
        torch.testing.assert_close(loss, expected.detach())
        torch.testing.assert_close(norm, torch.linalg.vector_norm(gradients))
        torch.testing.assert_close(training.network.state_dict(), plain.network.state_dict())


@pytest.mark.parametrize("bad", [infinite_with_finite_gradients, infinite_gradients, nan])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_a_loss_that_is_not_finite_changes_nothing(fused: bool, scaled: bool, bad: Loss) -> None:
    disturbed, undisturbed = Training(fused=fused, scaled=scaled), Training(fused=fused, scaled=scaled)
    for loss in (mean_square, bad, bad, mean_square):
        before = {name: value.clone() for name, value in disturbed.network.state_dict().items()}
        _, norm = disturbed.step(loss)
        assert norm.isfinite() == (loss is mean_square)
        if loss is bad:
            torch.testing.assert_close(disturbed.network.state_dict(), before, rtol=0, atol=0)
    undisturbed.step()
    undisturbed.step()
    torch.testing.assert_close(disturbed.network.state_dict(), undisturbed.network.state_dict())
    for ours, theirs in zip(disturbed.optimizer.state.values(), undisturbed.optimizer.state.values(), strict=True):
        torch.testing.assert_close(ours, theirs)
    if disturbed.scaler is not None:
        assert disturbed.scaler.get_scale() == 8.0 / 4


@pytest.mark.parametrize("scaled", [False, True])
def test_a_step_never_waits_for_the_device(scaled: bool) -> None:
    """Fake tensors have no values: whatever asks for one, as ``if`` and ``.item()`` do, is refused."""
    with FakeTensorMode():
        training = Training(scaled=scaled)
        for _ in range(2):
            training.step()
        with pytest.raises(DataDependentOutputException):
            Training(fused=False, scaled=scaled).step()


def test_lists_and_half_precision() -> None:
    """The network computes in the autocast type, the loss in float32, with one logit map for each scale."""
    seen: list[torch.dtype] = []

    class TwoScales(nn.Linear):
        def forward(self, data: torch.Tensor) -> list[torch.Tensor]:
            logits = super().forward(data)
            seen.append(logits.dtype)
            return [logits, logits[:2]]

    def loss(output: list[torch.Tensor], target: list[torch.Tensor]) -> torch.Tensor:
        seen.extend(scale.dtype for scale in output)
        return sum(mean_square(o, t) for o, t in zip(output, target, strict=True))

    network = TwoScales(3, 2)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    target = [torch.ones(4, 2), torch.ones(2, 2)]
    optimisation_step(network, loss, optimizer, torch.ones(4, 3), target, max_norm=1.0, autocast_dtype=torch.bfloat16)
    assert seen == [torch.bfloat16, torch.float32, torch.float32]
