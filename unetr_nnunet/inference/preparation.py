"""Preprocess an image as nnU-Net does, but leave out what is only air.

The steps are those of nnU-Net's `DefaultPreprocessor`: transpose, crop to what is not zero, normalise, resample. What
differs: of a CT, only what the network needs for the body is normalised and resampled, on the same grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

from unetr_nnunet.inference.body import body_box
from unetr_nnunet.inference.memory import USABLE_SHARE, Arrays, free_bytes
from unetr_nnunet.inference.model import Model
from unetr_nnunet.inference.resampling import Stretch, planned_resampling, resample

CHUNK_VOXELS = 2**27
"""At most so many voxels are resampled at once; more than any usual CT has."""

BYTES_PER_VOXEL = 32
"""Memory for normalising and resampling a voxel of the network's grid, if the image has as many or fewer."""

VOXELWISE = frozenset({"CTNormalization", "NoNormalization", "RGBTo01Normalization"})
"""Normalisations that look at one voxel at a time, so that a part of an image can be normalised by itself."""


@dataclass(frozen=True)
class Prepared:
    """The network's input, and where it lies in the image.

    Attributes:
        data: (C, *network_shape) float32, normalised, on the network's grid; valid in ``part`` and as far around it as
            a window that overlaps it can reach.
        part: first and one past the last voxel of the grid, per axis, of what is not only air.
        network_shape: voxels of the grid.
        network_spacing_mm: its spacing.
        crop: the box of the transposed image that the grid covers.
        image_shape: voxels of the transposed image.
        spacing_mm: spacing of the transposed image.
    """

    data: torch.Tensor
    part: tuple[tuple[int, int], ...]
    network_shape: tuple[int, ...]
    network_spacing_mm: tuple[float, ...]
    crop: tuple[slice, ...]
    image_shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]


def prepare(
    channels: Sequence[npt.NDArray[Any]],
    spacing_mm: Sequence[float],
    model: Model,
    arrays: Arrays,
    whole: bool = False,
) -> Prepared:
    """Preprocess an image for a model.

    Args:
        channels: (Z, Y, X) each, in the orientation that the model was trained in, in HU or what it was trained on.
        spacing_mm: (z, y, x).
        model: whose plans to follow.
        arrays: makes the array of the result.
        whole: whether to look at air, too, as nnU-Net does.
    """
    order = list(model.plans.transpose_forward)
    images = [channel.transpose(order) for channel in channels]
    image_shape = images[0].shape
    spacing = tuple(float(spacing_mm[axis]) for axis in order)
    crop, outside = _nonzero(images, any(model.configuration.use_mask_for_norm))
    images = [image[crop] for image in images]
    shape = images[0].shape
    target = tuple(map(float, model.configuration.spacing))
    target = target if len(target) == len(shape) else (spacing[0], *target)
    new_shape = tuple(max(1, int(length)) for length in compute_new_shape(shape, spacing, target))
    resampling = planned_resampling(model.configuration.configuration, "data")
    box = tuple(slice(0, length) for length in shape)
    if not whole and model.is_ct and resampling is not None:
        box = body_box(images[0], spacing)
    part = tuple(_network_part(*axis) for axis in zip(box, shape, new_shape, strict=True))
    read = _reach(part, new_shape, model.configuration.patch_size)
    if resampling is None:
        resized = model.configuration.resampling_fn_data(
            _normalised(images, outside, model), new_shape, spacing, target
        )
        data = torch.as_tensor(resized).float()
        return Prepared(data, part, new_shape, target, crop, image_shape, spacing)
    by_voxel = VOXELWISE.issuperset(model.configuration.normalization_schemes)
    if not by_voxel:
        images = list(_normalised(images, outside, model))
    orders = resampling.orders(spacing, target)
    data = arrays.zeros((len(images), *new_shape), torch.float32, torch.device("cpu"))
    limits = _limits(images, orders, model if by_voxel else None)
    inside = data[(slice(None), *(slice(*bounds) for bounds in read))]
    fitting = int(USABLE_SHARE * free_bytes() / (BYTES_PER_VOXEL * len(images)))
    rows = max(1, min(CHUNK_VOXELS, fitting) * inside.shape[1] // inside[0].numel())
    for row in range(0, inside.shape[1], rows):
        chunk = ((read[0][0] + row, min(read[0][0] + row + rows, read[0][1])), *read[1:])
        stretches = [
            Stretch(length, new_length, *bounds)
            for length, new_length, bounds in zip(shape, new_shape, chunk, strict=True)
        ]
        needed = [stretch.needed(degree) for stretch, degree in zip(stretches, orders, strict=True)]
        source = tuple(slice(*bounds) for bounds in needed)
        inputs = [image[source] for image in images]
        values = torch.from_numpy(_normalised(inputs, None, model) if by_voxel else np.stack(inputs))
        rows_of = tuple(slice(None) if order == 3 else span for order, span in zip(orders, source, strict=True))
        lowest, highest = (limit[(slice(None), *rows_of)] for limit in limits)
        offsets = [first for first, _ in needed]
        inside[:, row : row + rows] = resample(values, offsets, stretches, orders, (lowest, highest))
    return Prepared(data, part, new_shape, target, crop, image_shape, spacing)


def _reach(part: Sequence[tuple[int, int]], shape: Sequence[int], patch: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the voxels that windows which overlap a part can lie in, per axis."""
    margins = (*[0] * (len(shape) - len(patch)), *(length - 1 for length in patch))
    return tuple(
        (max(0, start - margin), min(length, stop + margin))
        for (start, stop), length, margin in zip(part, shape, margins, strict=True)
    )


def _limits(
    images: Sequence[npt.NDArray[Any]], orders: Sequence[int], model: Model | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the lowest and highest value of the whole image for `resample`, normalised for a model if one is given."""
    smooth = tuple(axis for axis, order in enumerate(orders) if order == 3)
    lowest, highest = ([reduce(image, axis=smooth, keepdims=True) for image in images] for reduce in (np.min, np.max))
    if model is None:
        return torch.from_numpy(np.stack(lowest)), torch.from_numpy(np.stack(highest))
    return torch.from_numpy(_normalised(lowest, None, model)), torch.from_numpy(_normalised(highest, None, model))


def _nonzero(images: list[npt.NDArray[Any]], with_mask: bool) -> tuple[tuple[slice, ...], npt.NDArray[np.int8] | None]:
    """Return the box of what is not zero in any channel, and nnU-Net's map of the outside where it normalises by it."""
    if with_mask:
        _, outside, bounds = crop_to_nonzero(np.stack(images))
        return tuple(slice(*pair) for pair in bounds), outside
    occupied = [np.zeros(length, bool) for length in images[0].shape]
    for image in images:
        flat: npt.NDArray[np.bool_] = np.any(image, axis=0)
        occupied[0] |= np.any(image, axis=(1, 2))
        occupied[1] |= flat.any(axis=1)
        occupied[2] |= flat.any(axis=0)
    places = [np.flatnonzero(line) for line in occupied]
    if not places[0].size:
        return tuple(slice(0, length) for length in images[0].shape), None
    return tuple(slice(int(place[0]), int(place[-1]) + 1) for place in places), None


def _network_part(box: slice, length: int, new_length: int) -> tuple[int, int]:
    """Return the voxels of the network's grid that a box of the image covers, at least one."""
    start = min(int(np.floor(box.start * new_length / length)), new_length - 1)
    return start, max(start + 1, min(new_length, int(np.ceil(box.stop * new_length / length))))


def _normalised(
    images: Sequence[npt.NDArray[Any]], outside: npt.NDArray[np.int8] | None, model: Model
) -> npt.NDArray[np.float32]:
    """Return all channels as (C, Z, Y, X), normalised by nnU-Net's own preprocessor."""
    data = np.stack([np.asarray(image, np.float32) for image in images])
    preprocessor = model.configuration.preprocessor_class(verbose=False)
    properties = model.plans.foreground_intensity_properties_per_channel
    mask = [None] if outside is None else outside
    return np.asarray(preprocessor._normalize(data, mask, model.configuration, properties), np.float32)
