"""Read the images of a case, in any format, and refuse with a reason what is not a sound 3-D scan.

The one way by which voxels come in, for every command. A refusal costs one case of a run; an image that was read
wrongly without a message would spoil a patient's result. What had to be mended is logged, and travels with the image
(`unetr_nnunet.images.grid.notes_of`).
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from unetr_nnunet.images.cases import Case
from unetr_nnunet.images.dicom_header import SliceHeader
from unetr_nnunet.images.dicom_series import read_series
from unetr_nnunet.images.files import refuse_unreadable, volume_ending
from unetr_nnunet.images.grid import GeometryError, Grid, add_notes, grid_differences, grid_note, notes_of, place
from unetr_nnunet.images.itk_formats import read_itk
from unetr_nnunet.images.nifti import read_nifti

Values = Callable[[npt.NDArray[Any], str], npt.NDArray[Any]]
"""From the voxels (Z, Y, X) as they are stored, and the name of their file, to those that are wanted."""

_logger = logging.getLogger(__name__)
sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what matters of a file is said here, in one line


def read_case(case: Case, assumed_orientation: str | None = None) -> list[sitk.Image]:
    """Read the channels of a case.

    Args:
        case: which files.
        assumed_orientation: orientation code, such as "RAS", of NIfTI files that do not tell their own; None refuses
            them.

    Returns:
        One 3-D scalar image a channel, on one grid: int16 or int32 where the file holds integers (a DICOM or NIfTI
        rescale applied), else float32, all values finite.

    Raises:
        ValueError: a channel is missing, damaged, no volume of single values, or on another grid; in one line.
        OSError: a file cannot be opened.
    """
    images = []
    for channel, files in enumerate(case.channels):
        if not files:
            given = next((paths[0].name for paths in case.channels if paths), "nothing")
            expected = f"{case.name}_{channel:04d}.nii.gz (or another ending)"
            raise ValueError(
                f"channel {channel} of {len(case.channels)} has no file; {expected} belongs beside {given}"
            )
        if len(files) > 1 and not case.is_dicom:
            raise ValueError(f"channel {channel} has {len(files)} files, keep one: {', '.join(map(str, files))}")
        images.append(_read(files, scan_values, case.is_dicom, case.headers, assumed_orientation))
        if differences := grid_differences(images[-1], images[0]):
            raise ValueError(f"{files[0]} lies on another grid than channel 0: {'; '.join(differences)}; resample it")
        if note := grid_note(images[-1], images[0], "channel 0"):
            add_notes(images[-1], [f"channel {channel} {note}"])
            _logger.warning("%s: channel %d %s", files[0], channel, note)
    return images


def read_image(path: Path) -> sitk.Image:
    """Read a volume file as `read_case` reads those of a case."""
    return _read((path,), scan_values)


def read_volume(path: Path, values: Values, assumed_orientation: str | None = None) -> sitk.Image:
    """Read a volume file with other values than those of a scan; see `read_case`."""
    return _read((path,), values, assumed_orientation=assumed_orientation)


def stored_voxels(path: Path) -> npt.NDArray[Any]:
    """Return the voxels (Z, Y, X) of a volume file as they are stored, wherever it lies in space.

    Raises:
        ValueError: see `read_case`.
    """
    stored, _, _ = _read_file(path, "RAS")
    return stored if isinstance(stored, np.ndarray) else sitk.GetArrayFromImage(stored)


def _read(
    files: Sequence[Path],
    values: Values,
    is_dicom: bool = False,
    headers: Sequence[SliceHeader] = (),
    assumed_orientation: str | None = None,
) -> sitk.Image:
    for path in files:
        refuse_unreadable(path)
    stored, grid, notes = read_series(files, headers) if is_dicom else _read_file(files[0], assumed_orientation)
    array = stored if isinstance(stored, np.ndarray) else sitk.GetArrayViewFromImage(stored)
    wanted = values(array, str(files[0]))
    image = stored if wanted is array and isinstance(stored, sitk.Image) else sitk.GetImageFromArray(wanted)
    try:
        place(image, grid, notes)
    except GeometryError as error:
        raise ValueError(f"{files[0]} {error}") from error
    for note in notes_of(image):
        _logger.warning("%s: %s", files[0], note)
    return image


def _read_file(path: Path, assumed_orientation: str | None) -> tuple[npt.NDArray[Any] | sitk.Image, Grid, list[str]]:
    try:
        if ".nii" in volume_ending(path).lower():
            return read_nifti(path, assumed_orientation)
        image = read_itk(path)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
    return image, Grid.of(image), []


def scan_values(voxels: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Return the values of a scan (Z, Y, X): finite, and in the smallest type that a CT needs."""
    refuse_not_finite(voxels, name)
    return compact(voxels)


def refuse_not_finite(voxels: npt.NDArray[Any], name: str) -> None:
    """Refuse NaN, infinity, and what becomes infinite in the float32 that everything is computed in.

    Args:
        voxels: of any shape and type; looked at along the first axis, so that no copy of the whole is made.
        name: for the message.

    Raises:
        ValueError: a voxel is NaN, infinite or beyond float32.
    """
    if not np.issubdtype(voxels.dtype, np.floating):
        return
    with np.errstate(over="ignore"):
        wrong = sum(int(np.count_nonzero(~np.isfinite(part.astype(np.float32, copy=False)))) for part in voxels)
    if wrong:
        raise ValueError(
            f"{name} holds {wrong} voxels that are NaN or infinite; replace them, with air (-1000) in a CT"
        )


def compact(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return integers as int16, or int32 where they need it, and everything else as float32; itself where it fits."""
    if voxels.dtype == np.int16 or voxels.dtype == np.float32:
        return voxels
    if np.issubdtype(voxels.dtype, np.integer) or voxels.dtype == bool:
        low, high = int(voxels.min()), int(voxels.max())
        for integer in (np.int16, np.int32):
            if np.iinfo(integer).min <= low and high <= np.iinfo(integer).max:
                return voxels.astype(integer, copy=False)
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which is refused
        return voxels.astype(np.float32)
