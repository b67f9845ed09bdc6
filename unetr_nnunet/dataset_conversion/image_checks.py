"""Is this a CT in Hounsfield units, is this its label map, and do the two lie on the same voxels?

The two reports behind the checks: nnU-Net only warns where the affines of image and label differ
(MIC-DKFZ/nnUNet issues 1287, 2551) and stops in the middle of planning at a wrong label value.
"""

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unetr_nnunet.dataset_conversion.problems import Problem
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.images.nifti_stream import DamagedFileError, open_nifti

SPACING_TOLERANCE_MM = 1e-3
DIRECTION_TOLERANCE = 1e-3
"""Largest difference of a direction cosine: 0.06 degrees, 0.4 mm at the far end of a 400 mm field of view."""
ORIGIN_TOLERANCE_MM = 0.1
ORTHONORMAL_TOLERANCE = 1e-4
"""Largest entry of D^T D - I; SimpleITK refuses to read what is further off."""
HIGHEST_MINIMUM_HU = -500
"""A CT shows air (about -1000); a minimum above this means windowed, normalised or unsigned values."""
LOWEST_MINIMUM_HU = -4096
"""Scanners pad with -1024, -2048 or -3024; nothing below twelve bits is a Hounsfield unit."""
LOWEST_MAXIMUM_HU = 100
"""Every abdomen holds bone or contrast agent above this."""
HIGHEST_MAXIMUM_HU = 32767

AGAIN = "download or extract this file again"


@dataclass(frozen=True)
class Volume:
    """What one pass over a NIfTI file tells.

    Attributes:
        header: the ``nibabel.Nifti1Header``.
        affine: voxel to RAS millimetres, (4, 4).
        minimum: smallest value, scaling applied; NaN where a voxel is NaN.
        maximum: largest value, likewise.
        is_integer: every value is a whole number.
        values: the values that occur, where all lie in 0..255 and are whole; else empty.
    """

    header: Any
    affine: npt.NDArray[np.float64]
    minimum: float
    maximum: float
    is_integer: bool
    values: frozenset[int]

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along the file's axes."""
        return tuple(self.header.get_data_shape())

    @property
    def spacing_mm(self) -> npt.NDArray[np.float64]:
        """Voxel size along the file's axes, (3,), from the affine."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def direction(self) -> npt.NDArray[np.float64]:
        """Unit vectors of the file's axes as columns, (3, 3)."""
        return np.asarray(self.affine[:3, :3] / self.spacing_mm)

    @property
    def has_plain_integers(self) -> bool:
        """The file stores integers and does not scale them."""
        return self.header.get_data_dtype().kind in "iu" and scaling(self.header) == (1.0, 0.0)


def scaling(header: Any) -> tuple[float, float]:
    """Return (slope, intercept) of a header, (1, 0) where it names none."""
    slope, intercept = header.get_slope_inter()
    return (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))


def scaled(chunks: Iterator[npt.NDArray[Any]], header: Any) -> Iterator[npt.NDArray[Any]]:
    """Apply the header's scaling; unscaled values keep their stored type."""
    slope, intercept = scaling(header)
    plain = (slope, intercept) == (1.0, 0.0)
    for chunk in chunks:
        yield chunk if plain else chunk * slope + intercept


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
            header, chunks = open_nifti(stream, gzipped=file.name.lower().endswith(".gz"))
            for chunk in scaled(chunks, header):
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
    return Volume(header, np.asarray(header.get_best_affine(), np.float64), low, high, is_integer, values)


def geometry_problems(file: SourceFile, volume: Volume) -> list[Problem]:
    """Check one file's own geometry: three axes, finite orthonormal affine that agrees with the voxel sizes."""
    if len(volume.shape) != 3 or min(volume.shape) < 1:
        return [Problem(file.name, f"has shape {volume.shape} instead of three axes", AGAIN)]
    if not np.isfinite(volume.affine).all() or np.linalg.det(volume.affine[:3, :3]) == 0:
        return [Problem(file.name, f"has no usable affine: {volume.affine[:3].tolist()}", AGAIN)]
    problems = []
    deviation = float(np.abs(volume.direction.T @ volume.direction - np.eye(3)).max())
    if deviation > ORTHONORMAL_TOLERANCE:
        fact = f"its axes are not at right angles (off by {deviation:.2g}, at most {ORTHONORMAL_TOLERANCE:g} allowed)"
        problems.append(Problem(file.name, fact, "resample it to a grid without shear or gantry tilt first"))
    zooms = np.asarray(volume.header.get_zooms(), np.float64)
    if np.abs(zooms - volume.spacing_mm).max() > SPACING_TOLERANCE_MM:
        fact = f"the header's voxel size {_list(zooms)} mm contradicts its affine, {_list(volume.spacing_mm)} mm"
        problems.append(Problem(file.name, fact, AGAIN))
    return problems


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
        f"values from {low:g} to {high:g} are no Hounsfield units of an abdominal CT (minimum within "
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
    """Check that a label map lies on its image's voxels, within the tolerances of this module."""
    if label.shape != image.shape:
        fact = f"shape {label.shape} differs from its image's {image.shape}"
        return [Problem(file.name, fact, "use the label file that belongs to this image")]
    spacing = float(np.abs(label.spacing_mm - image.spacing_mm).max())
    direction = float(np.abs(label.direction - image.direction).max())
    origin = float(np.abs(label.affine[:3, 3] - image.affine[:3, 3]).max())
    facts = []
    if spacing > SPACING_TOLERANCE_MM:
        facts.append(f"spacing {_list(label.spacing_mm)} mm differs from its image's {_list(image.spacing_mm)} mm")
    if direction > DIRECTION_TOLERANCE:
        facts.append(f"direction differs from its image's by {direction:.3g} (at most {DIRECTION_TOLERANCE:g} allowed)")
    if origin > ORIGIN_TOLERANCE_MM:
        facts.append(f"origin is {origin:.3g} mm off its image's (at most {ORIGIN_TOLERANCE_MM:g} mm allowed)")
    remedy = "use the label file that belongs to this image, in the same orientation and position"
    return [Problem(file.name, fact, remedy) for fact in facts]


def rewrite_reasons(label: Volume, image: Volume) -> list[str]:
    """Return why an acceptable label map cannot be taken over byte by byte; empty where it can."""
    reasons = []
    if not label.has_plain_integers:
        reasons.append(f"stored as {label.header.get_data_dtype().name} instead of plain integers")
    same_affine = np.allclose(label.affine, image.affine)
    if not (same_affine and np.allclose(label.header.get_zooms(), image.header.get_zooms())):
        off_mm = float(np.abs(label.affine[:3, 3] - image.affine[:3, 3]).max())
        reasons.append(f"geometry differs slightly from its image's (origin by {off_mm:.2g} mm): the image's is used")
    return reasons


def _list(numbers: npt.NDArray[np.float64]) -> str:
    return " x ".join(f"{number:.6g}" for number in numbers)
