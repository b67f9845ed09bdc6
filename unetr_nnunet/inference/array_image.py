"""Check what Python code hands over: images, and NumPy arrays, which become images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from unetr_nnunet.images.grid import Grid
from unetr_nnunet.images.read import scan_values


def array_as_images(
    image: npt.ArrayLike, spacing_mm: Sequence[float], orientation: str, channel_count: int
) -> list[sitk.Image]:
    """Return an image for each channel.

    Args:
        image: (Z, Y, X), or (C, Z, Y, X); integers or floats of any size and byte order.
        spacing_mm: (z, y, x).
        orientation: of the axes x, y, z, such as "RAS".
        channel_count: channels that the model takes.

    Raises:
        ValueError: another number of axes or channels, no voxels, values that are not finite real numbers, or a spacing
            that is not three plausible lengths in mm.
    """
    array = np.asarray(image)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"the image holds values of type {array.dtype}; intensities (integers or floats) are needed")
    if array.ndim not in (3, 4):
        raise ValueError(f"the image has shape {array.shape}; (Z, Y, X) is needed, or (C, Z, Y, X)")
    channels = array if array.ndim == 4 else array[None]
    if len(channels) != channel_count:
        raise ValueError(
            f"the image has {len(channels)} channel(s), shape {array.shape}; the model takes {channel_count}"
        )
    if not array.size:
        raise ValueError(f"the image holds no voxels, shape {array.shape}")
    lengths = [float(length) for length in spacing_mm]
    if len(lengths) != 3:
        raise ValueError(f"spacing_mm is {tuple(lengths)}; three lengths in mm are needed, (z, y, x)")
    direction = sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(orientation)
    images = []
    for number, channel in enumerate(channels):
        native = _native(channel)
        volume = sitk.GetImageFromArray(scan_values(native, f"channel {number}"))
        grid = Grid(volume.GetSize(), np.array(lengths[::-1]), np.zeros(3), np.reshape(direction, (3, 3)))
        try:
            grid.mended()
        except ValueError as error:
            raise ValueError(f"the image {error}; spacing_mm is in millimetres, (z, y, x)") from error
        volume.SetSpacing(lengths[::-1])
        volume.SetDirection(direction)
        images.append(volume)
    return images


def _native(channel: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a channel in this machine's byte order, float16 as float32, which image libraries know."""
    kind = np.dtype(np.float32) if channel.dtype == np.float16 else channel.dtype.newbyteorder("=")
    return channel.astype(kind, copy=False)


def refuse_other_images(channels: Sequence[sitk.Image], channel_names: Sequence[str]) -> None:
    """Refuse images that are not one 3-D image for each channel of a model, all of one size.

    Args:
        channels: what a caller gives.
        channel_names: of the model.

    Raises:
        ValueError: with what is given and what is needed.
    """
    if len(channels) != len(channel_names):
        needed = f"{len(channel_names)} channel(s): {', '.join(channel_names)}"
        raise ValueError(f"{len(channels)} image(s) for a model of {needed}")
    for image in channels:
        if not isinstance(image, sitk.Image) or image.GetDimension() != 3:
            kind = f"{image.GetDimension()}-D image" if isinstance(image, sitk.Image) else type(image).__name__
            raise ValueError(f"a channel is a {kind}: give a 3-D SimpleITK image a channel, or use predict_array")
        if image.GetSize() != channels[0].GetSize():
            raise ValueError(f"channels of {channels[0].GetSize()} and {image.GetSize()} voxels: resample them first")
