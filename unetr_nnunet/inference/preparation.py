"""From an image as nnU-Net's reader would hand it over to the part of the network's input that needs to be looked at.

The steps are those of nnU-Net's `DefaultPreprocessor`: transpose, crop to what is not zero, normalise, resample. What
differs: of a CT, only the body is normalised and resampled, on the same grid.
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
from unetr_nnunet.inference.memory import Arrays
from unetr_nnunet.inference.model import Model
from unetr_nnunet.inference.resampling import Stretch, planned_resampling, resample

CHUNK_VOXELS = 2**27
"""So many voxels are resampled at once; more than any usual CT has."""

VOXELWISE = frozenset({"CTNormalization", "NoNormalization", "RGBTo01Normalization"})
"""Normalisations that look at one voxel at a time, so that a part of an image can be normalised by itself."""


@dataclass(frozen=True)
class Prepared:
    """The network's input, and where it lies in the image.

    Attributes:
        data: (C, *network_shape) float32, normalised, on the network's grid; air where nothing is to be found.
        part: first and one past the last voxel of the grid in which something is, per axis.
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
    part = tuple(_network_part(*each) for each in zip(box, shape, new_shape, strict=True))
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
    inside = data[(slice(None), *(slice(*bounds) for bounds in part))]
    rows = max(1, CHUNK_VOXELS * inside.shape[1] // inside[0].numel())
    for row in range(0, inside.shape[1], rows):
        chunk = ((part[0][0] + row, min(part[0][0] + row + rows, part[0][1])), *part[1:])
        stretches = [
            Stretch(length, new_length, *bounds)
            for length, new_length, bounds in zip(shape, new_shape, chunk, strict=True)
        ]
        needed = [stretch.needed(degree) for stretch, degree in zip(stretches, orders, strict=True)]
        source = tuple(slice(*bounds) for bounds in needed)
        inputs = [image[source] for image in images]
        values = torch.from_numpy(_normalised(inputs, None, model) if by_voxel else np.stack(inputs))
        inside[:, row : row + rows] = resample(values, [first for first, _ in needed], stretches, orders)
    _fill_outside(data, part)
    return Prepared(data, part, new_shape, target, crop, image_shape, spacing)


def _fill_outside(data: torch.Tensor, part: Sequence[tuple[int, int]]) -> None:
    """Write each channel's lowest value, a CT's air, wherever it lies outside a box."""
    lowest = data[(slice(None), *(slice(*bounds) for bounds in part))].amin((1, 2, 3), keepdim=True)
    for axis, (start, stop) in enumerate(part):
        inner = tuple(slice(*bounds) for bounds in part[:axis])
        data[(slice(None), *inner, slice(0, start))] = lowest
        data[(slice(None), *inner, slice(stop, None))] = lowest


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
