"""Check a CT and its label map: Hounsfield units, label values, geometry, and that both lie on the same voxels.

The two reports behind the checks: nnU-Net only warns where the affines of image and label differ
(MIC-DKFZ/nnUNet issues 1287, 2551) and stops in the middle of planning at a wrong label value.
"""

import math
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from unetr_nnunet.dataset_conversion.problems import Problem
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.images.compressed import DamagedFileError
from unetr_nnunet.images.grid import GeometryError, Grid, grid_differences
from unetr_nnunet.images.nifti import NiftiVolume, open_nifti

HIGHEST_MINIMUM_HU = -500
"""A CT shows air (about -1000); a minimum above this means windowed, normalised or unsigned values."""
LOWEST_MINIMUM_HU = -4096
"""Scanners pad with -1024, -2048 or -3024; nothing below twelve bits is a Hounsfield unit."""
LOWEST_MAXIMUM_HU = 100
"""Every scan holds bone or contrast agent above this."""
HIGHEST_MAXIMUM_HU = 32767

AGAIN = "download or extract this file again"


@dataclass(frozen=True)
class Volume:
    """The result of one pass over a NIfTI file.

    Attributes:
        nifti: the file's header.
        minimum: smallest value, scaling applied; NaN where a voxel is NaN.
        maximum: largest value, likewise.
        is_integer: every value is a whole number.
        values: the values that occur, where all lie in 0..255 and are whole; else empty.
        assumed_orientation: orientation code for a file that has none; None where that is a problem.
    """

    nifti: NiftiVolume
    minimum: float
    maximum: float
    is_integer: bool
    values: frozenset[int]
    assumed_orientation: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along the file's axes."""
        return self.nifti.shape

    @property
    def header(self) -> Any:
        """The ``nibabel.Nifti1Header``."""
        return self.nifti.header

    def geometry(self) -> tuple[Grid, list[str]]:
        """Return where the volume lies, and notes on how that was understood.

        Raises:
            GeometryError: the header has no geometry that can be used.
        """
        grid, notes = self.nifti.grid(self.assumed_orientation)
        mended, note = grid.mended()
        return mended, [*notes, *([note] if note else [])]

    @property
    def has_plain_integers(self) -> bool:
        """The file stores integers and does not scale them."""
        return self.header.get_data_dtype().kind in "iu" and not self.nifti.is_scaled


def read_image(file: SourceFile) -> Volume:
    """Scan an image: geometry, smallest and largest value, and that the file is whole.

    Raises:
        DamagedFileError: the file cannot be read to its end.
    """
    return _scan(file, collect_values=False)


def read_label(file: SourceFile) -> Volume:
    """Scan a label map: as ``read_image``, and which values occur.

    Raises:
        DamagedFileError: the file cannot be read to its end.
    """
    return _scan(file, collect_values=True)


def _scan(file: SourceFile, collect_values: bool) -> Volume:
    low, high, is_integer = math.inf, -math.inf, True
    counts = np.zeros(256, np.int64)
    voxel_count = 0
    try:
        with file.open() as stream:
            nifti = open_nifti(stream, gzipped=file.is_gzipped)
            for chunk in nifti.values():
                chunk_low, chunk_high = float(chunk.min()), float(chunk.max())
                # np.fmin would hide a NaN
                low, high = float(np.minimum(low, chunk_low)), float(np.maximum(high, chunk_high))
                voxel_count += chunk.size
                if collect_values and chunk_low >= 0 and chunk_high <= 255:
                    foreground = chunk[chunk != 0]
                    whole = foreground.astype(np.uint8)
                    is_integer &= foreground.dtype.kind in "iu" or bool((whole == foreground).all())
                    counts += np.bincount(whole, minlength=256)
    except (zipfile.BadZipFile, EOFError) as error:
        raise DamagedFileError(f"damaged inside the zip archive ({error})") from error
    counts[0] = voxel_count - counts.sum()
    in_range = is_integer and low >= 0 and high <= 255
    values = frozenset(int(value) for value in np.flatnonzero(counts)) if collect_values and in_range else frozenset()
    return Volume(nifti, low, high, is_integer, values)


def geometry_problems(file: SourceFile, volume: Volume) -> list[Problem]:
    """Check one file's own geometry: three axes, and one place in space (`unetr_nnunet.images.grid`)."""
    if len(volume.shape) != 3 or min(volume.shape) < 1:
        return [Problem(file.name, f"has shape {volume.shape} instead of three axes", AGAIN)]
    try:
        volume.geometry()
    except GeometryError as error:
        return [Problem(file.name, error.fact, error.remedy)]
    return []


def finite_problems(file: SourceFile, image: Volume) -> list[Problem]:
    """Check that every value is a number."""
    if math.isfinite(image.minimum) and math.isfinite(image.maximum):
        return []
    return [Problem(file.name, "contains NaN or infinite values", AGAIN)]


def hounsfield_problems(file: SourceFile, image: Volume) -> list[Problem]:
    """Check that the values can be Hounsfield units of a whole CT slice with air around or in the body."""
    low, high = image.minimum, image.maximum
    plausible_low = LOWEST_MINIMUM_HU <= low <= HIGHEST_MINIMUM_HU
    if plausible_low and LOWEST_MAXIMUM_HU <= high <= HIGHEST_MAXIMUM_HU:
        return []
    fact = (
        f"values from {low:g} to {high:g} are not Hounsfield units of a CT (minimum within "
        f"{LOWEST_MINIMUM_HU}..{HIGHEST_MINIMUM_HU}, maximum within {LOWEST_MAXIMUM_HU}..{HIGHEST_MAXIMUM_HU})"
    )
    return [Problem(file.name, fact, "use the original file, not windowed, normalised or shifted to unsigned")]


def label_value_problems(file: SourceFile, label: Volume, highest: int) -> list[Problem]:
    """Check that a label map holds whole numbers within 0..``highest`` only."""
    low, high = label.minimum, label.maximum
    if not (low >= 0 and high <= highest):
        fact = f"label values from {low:g} to {high:g}, allowed are 0..{highest}"
        return [Problem(file.name, fact, "use the original label file of this data set")]
    if not label.is_integer:
        fact = "label values with fractions (an interpolated label map)"
        return [Problem(file.name, fact, "use the original label file, or resample labels with nearest neighbour")]
    return []


def pair_problems(file: SourceFile, label: Volume, image: Volume) -> list[Problem]:
    """Check that a label map lies on its image's voxels."""
    differences = grid_differences(label.geometry()[0], image.geometry()[0])
    if not differences:
        return []
    fact = f"lies on another grid than its image: {'; '.join(differences)}"
    return [Problem(file.name, fact, "use the label file that belongs to this image, in the same place")]


def rewrite_reasons(label: Volume, image: Volume) -> list[str]:
    """Return why an acceptable label map cannot be taken over byte by byte; empty where it can."""
    reasons = []
    if not label.has_plain_integers:
        reasons.append(f"stored as {label.header.get_data_dtype().name} instead of plain integers")
    own, wanted = (np.asarray(volume.header.get_best_affine()) for volume in (label, image))
    if not (np.allclose(own, wanted) and np.allclose(label.header.get_zooms(), image.header.get_zooms())):
        off_mm = float(np.abs(own[:3, 3] - wanted[:3, 3]).max())
        reasons.append(f"geometry differs slightly from its image's (origin by {off_mm:.2g} mm): the image's is used")
    return reasons
