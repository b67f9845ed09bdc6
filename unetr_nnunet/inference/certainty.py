"""The label map on the network's grid, how certain the network is of each organ in it, and whether its folds agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

CHUNK_VALUES = 2**22
"""So many logits are looked at together."""


@dataclass(frozen=True)
class NetworkLabels:
    """What mean logits amount to on the network's grid.

    Attributes:
        labels: (Z, Y, X), integers as in the label map that is written.
        probabilities: mean over the voxels of each output, by its integer; those without a voxel are left out.
    """

    labels: npt.NDArray[np.uint8 | np.int16]
    probabilities: dict[int, float]


def network_labels(logits: torch.Tensor, labels: LabelManager) -> NetworkLabels:
    """Return the label map of logits (K, Z, Y, X), and the mean probability of each output where it is on top.

    The probability is the softmax's, or of a region model the sigmoid's.
    """
    integers = written_integers(labels)
    label_map = torch.zeros(logits.shape[1:], dtype=_dtype(integers), device=logits.device)
    sums = torch.zeros((2, len(integers)), dtype=torch.float64)
    rows = max(1, CHUNK_VALUES * logits.shape[1] // logits.numel())
    for start in range(0, logits.shape[1], rows):
        values = logits[:, start : start + rows].float()
        target = label_map[start : start + rows]
        sums += (_add_regions if labels.has_regions else _add_labels)(values, target, integers)
    means = {
        integer: float(total / count)
        for integer, total, count in zip(integers, *sums.tolist(), strict=True)
        if count and (integer or labels.has_regions)
    }
    return NetworkLabels(label_map.cpu().numpy(), means)


def written_integers(labels: LabelManager) -> list[int]:
    """Return the integer that each output has in a label map."""
    return [int(label) for label in (labels.regions_class_order if labels.has_regions else labels.all_labels)]


def fold_labels(logits: torch.Tensor, labels: LabelManager) -> torch.Tensor:
    """Return the label map (Z, Y, X) of one fold's logits (K, Z, Y, X), in main memory."""
    return torch.from_numpy(network_labels(logits, labels).labels)


def fold_dice(folds: Sequence[torch.Tensor], integers: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Return each organ's mean Dice between the label maps of all pairs of folds; organs that none has are left out.

    Args:
        folds: label maps (Z, Y, X) in main memory.
        integers: of each organ, or of each region, by name.
    """
    if len(folds) < 2:
        return {}
    count = max(int(labels.max()) for labels in folds) + 1
    inside = torch.stack([labels > 0 for labels in folds]).any(0)
    maps = [labels[inside].long() for labels in folds]
    dice: dict[str, list[float]] = {organ: [] for organ in integers}
    for one, other in combinations(maps, 2):
        common = torch.bincount(one * count + other, minlength=count**2).view(count, count)
        for organ, several in integers.items():
            own = [label for label in several if label < count]
            both, total = int(common[own][:, own].sum()), int(common[own].sum() + common[:, own].sum())
            dice[organ] += [2 * both / total] if total else []
    return {organ: float(np.mean(values)) for organ, values in dice.items() if values}


def _dtype(integers: Sequence[int]) -> torch.dtype:
    return torch.uint8 if max(integers) < 256 else torch.int16


def _add_labels(values: torch.Tensor, target: torch.Tensor, integers: Sequence[int]) -> torch.Tensor:
    """Write the label of each voxel, and return (sums of probabilities, voxels) of each output, (2, K)."""
    best, winner = values.max(0)
    target.copy_(torch.tensor(integers, dtype=target.dtype, device=target.device)[winner])
    inside = winner > 0
    winners = winner[inside]
    probabilities = torch.exp(best[inside] - values[:, inside].logsumexp(0))
    sums = torch.zeros(len(integers), device=values.device).index_add_(0, winners, probabilities)
    counts = torch.bincount(winners, minlength=len(integers))
    return torch.stack([sums.cpu().double(), counts.cpu().double()])


def _add_regions(values: torch.Tensor, target: torch.Tensor, integers: Sequence[int]) -> torch.Tensor:
    """Do the same for regions, of which a later one is written over an earlier one."""
    sums = torch.zeros((2, len(integers)), dtype=torch.float64)
    for region, integer in enumerate(integers):
        inside = values[region] > 0
        target.masked_fill_(inside, integer)
        sums[:, region] = torch.tensor([float(torch.sigmoid(values[region][inside]).sum()), float(inside.sum())])
    return sums
