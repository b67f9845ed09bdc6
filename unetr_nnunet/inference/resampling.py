"""Resample parts of an image as nnU-Net resamples the whole, axis by axis.

nnU-Net hands the whole volume, and then the logits of all classes, to ``skimage.transform.resize`` (or to torch's
``interpolate``). Both map voxel centres alike, and both are separable: a spline of order 0, 1 or 3 along each axis in
turn. Done that way, any part of the result costs what the part costs, and equals that part of nnU-Net's own result.
All of it runs on the values' device except the recursive prefilter of cubic splines (Unser, IEEE Signal Processing
Magazine 1999), which is SciPy's, as in skimage, and runs on the CPU. nnU-Net interpolates logits linearly, without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from nnunetv2.configuration import ANISO_THRESHOLD
from nnunetv2.preprocessing.resampling.default_resampling import determine_do_sep_z_and_axis
from scipy import ndimage

from unetr_nnunet.inference.device import to_device

PREFILTER_MARGIN = 12
"""Voxels by which SciPy continues an image before it filters it; a part takes as many of its neighbours."""

_ORDER_PARAMETER = {"resample_data_or_seg_to_shape": 3, "resample_torch_fornnunet": 1}


@dataclass(frozen=True)
class Resampling:
    """How plans resample.

    Attributes:
        order: 0 (nearest), 1 (linear) or 3 (cubic B-spline).
        order_z: the same for the axis with thick slices where that goes by itself: 0 or 1.
        force_separate_z: whether it does; None where nnU-Net decides.
        threshold: anisotropy from which it does.
    """

    order: int
    order_z: int
    force_separate_z: bool | None
    threshold: float

    def orders(self, spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]) -> tuple[int, ...]:
        """Return the spline order along each axis.

        Args:
            spacing_mm: voxel spacing per axis before.
            new_spacing_mm: the same after.
        """
        separate, axis = determine_do_sep_z_and_axis(self.force_separate_z, spacing_mm, new_spacing_mm, self.threshold)
        return tuple(self.order_z if separate and index == axis else self.order for index in range(len(spacing_mm)))


def planned_resampling(configuration: Mapping[str, Any], what: str) -> Resampling | None:
    """Return how a configuration resamples ``"data"`` or ``"probabilities"``.

    Returns:
        None where it is by a function, or with options, that only nnU-Net itself can run.
    """
    function = configuration[f"resampling_fn_{what}"]
    options = dict(configuration[f"resampling_fn_{what}_kwargs"])
    if function not in _ORDER_PARAMETER or options.pop("is_seg", False):
        return None
    default_separate = False if function == "resample_data_or_seg_to_shape" else None  # the functions' own defaults
    planned = Resampling(
        int(options.pop("order", _ORDER_PARAMETER[function])),
        int(options.pop("order_z", 0)),
        options.pop("force_separate_z", default_separate),
        float(options.pop("separate_z_anisotropy_threshold", ANISO_THRESHOLD)),
    )
    plain = {"mode": "linear", "aniso_axis_mode": "nearest-exact"}
    harmless = all(
        key in ("memefficient_seg_resampling", "num_threads") or plain.get(key) == options[key] for key in options
    )
    orders_fit = planned.order in (0, 1, 3) and (planned.order_z in (0, 1) or planned.force_separate_z is False)
    return planned if harmless and orders_fit else None


@dataclass(frozen=True)
class Stretch:
    """One axis of a resampling: ``length`` voxels become ``new_length``, and ``start`` to ``stop`` of those are wanted.

    Voxel centres are mapped so that both grids cover the same span.
    """

    length: int
    new_length: int
    start: int
    stop: int

    @property
    def is_identity(self) -> bool:
        """The voxels stay what they are."""
        return self.length == self.new_length

    def positions(self) -> npt.NDArray[np.float64]:
        """Return where the wanted voxels' centres lie among the old ones, (stop - start,)."""
        centres = np.arange(self.start, self.stop) + 0.5
        return np.asarray(centres * (self.length / self.new_length) - 0.5)

    def needed(self, order: int) -> tuple[int, int]:
        """Return the first and one past the last of the old voxels that the wanted ones depend on."""
        if self.is_identity:
            return self.start, self.stop
        margin = PREFILTER_MARGIN + 2 if order == 3 else 1
        places = self.positions()
        first, last = int(np.floor(places[0])), int(np.floor(places[-1])) + 1
        return max(0, first - margin), min(self.length, last + margin + 1)


def resample(
    values: torch.Tensor,
    offsets: Sequence[int],
    stretches: Sequence[Stretch],
    orders: Sequence[int],
    limits: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Resample a part of an image.

    Args:
        values: (C, *S), the old voxels from ``offsets`` on; at least those that `Stretch.needed` names.
        offsets: which old voxel comes first, per axis.
        stretches: what becomes of each axis.
        orders: spline order along each axis, 0, 1 or 3.
        limits: lowest and highest value of the whole image, each (C, *S) with one voxel along the axes of order 3, to
            which splines are clipped, as in skimage; None for those of ``values``.

    Returns:
        (C, *(stop - start)), of the same type; float16 is interpolated in float32.
    """
    kind = values.dtype
    axes = sorted(range(len(stretches)), key=lambda axis: stretches[axis].new_length / stretches[axis].length)
    smooth = [axis for axis in axes if orders[axis] == 3]
    if any(not stretches[axis].is_identity for axis in smooth):
        dims = [axis + 1 for axis in smooth]
        low, high = limits or (values.amin(dims, keepdim=True), values.amax(dims, keepdim=True))
        for axis in smooth:
            values = _along(values, axis + 1, offsets[axis], stretches[axis], 3)
        values = torch.minimum(torch.maximum(values, low), high)  # a spline overshoots at edges
        axes = [axis for axis in axes if axis not in smooth]
    for axis in axes:
        values = _along(values, axis + 1, offsets[axis], stretches[axis], orders[axis])
    return values.to(kind)


def _along(values: torch.Tensor, dim: int, offset: int, stretch: Stretch, order: int) -> torch.Tensor:
    if stretch.is_identity:
        return values.narrow(dim, stretch.start - offset, stretch.stop - stretch.start)
    places = stretch.positions()
    if order == 0:
        return _pick(values, dim, np.floor(places + 0.5) - offset)
    if order == 1:
        part = places - np.floor(places)
        taps = [(np.floor(places), 1 - part), (np.floor(places) + 1, part)]
    else:
        values, offset = _prefiltered(values, dim, offset, stretch.length)
        part = places - np.floor(places)
        rest = 1 - part
        weights = (rest**3, 4 - 6 * part**2 + 3 * part**3, 4 - 6 * rest**2 + 3 * rest**3, part**3)
        taps = [(np.floor(places) + place, weight / 6) for place, weight in zip((-1, 0, 1, 2), weights, strict=True)]
    shape = [-1 if axis == dim else 1 for axis in range(values.dim())]
    result: torch.Tensor | None = None
    for index, weight in taps:
        picked = _pick(values, dim, index - offset).float()
        factor = to_device(torch.from_numpy(weight.astype(np.float32)).view(shape), values.device)
        result = picked.mul_(factor) if result is None else result.addcmul_(picked, factor)
    return values if result is None else result


def _pick(values: torch.Tensor, dim: int, index: npt.NDArray[np.float64]) -> torch.Tensor:
    """Return the voxels of these places along an axis, those at the ends in place of any beyond; a copy."""
    chosen = np.clip(index, 0, values.shape[dim] - 1).astype(np.int64)
    return values.index_select(dim, to_device(torch.from_numpy(chosen), values.device))


def _prefiltered(values: torch.Tensor, dim: int, offset: int, length: int) -> tuple[torch.Tensor, int]:
    """Return spline coefficients and their offset; at its own ends an image is continued as by SciPy's "nearest"."""
    before = PREFILTER_MARGIN if offset == 0 else 0
    after = PREFILTER_MARGIN if offset + values.shape[dim] == length else 0
    padding = [(before, after) if axis == dim else (0, 0) for axis in range(values.dim())]
    array = np.pad(values.float().cpu().numpy(), padding, mode="edge")
    coefficients = ndimage.spline_filter1d(array, 3, axis=dim, output=np.float32, mode="mirror")
    return to_device(torch.from_numpy(coefficients), values.device), offset - before
