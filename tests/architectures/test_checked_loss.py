import pytest
import torch

from unetr_nnunet.architectures.checked_loss import CheckedLoss
from unetr_nnunet.architectures.networks import WrongOutputError, network


def test_outputs_are_compared_before_the_loss_is_taken(otherlab):
    loss = CheckedLoss(lambda output, target: output[0].sum(), network("Pyramid", (8, 8), (1.0, 1.0)), 3)
    target = [torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 4, 4)]
    output = [torch.ones(2, 3, 8, 8), torch.ones(2, 3, 4, 4)]
    assert loss(output, target) == 2 * 3 * 8 * 8
    assert loss(output[0], target[0]) == 3 * 8 * 8
    with pytest.raises(WrongOutputError, match=r"Pyramid \(otherlab 1\.2\) returns"):
        loss([output[0], output[0]], target)
    with pytest.raises(WrongOutputError, match="returns a list"):
        loss(output, target[0])
