"""Read and write NIfTI-1 files.

Read piece by piece, so that checking a CT costs one decompression and no memory to speak of. nibabel parses the header;
its own array access would hold the whole volume, as float64 where the header scales, and SimpleITK fills a file that
was cut short with zeros, reads NaN as 0, and takes whichever of the header's two geometries it likes better.
Format: https://nifti.nimh.nih.gov/nifti-1
"""

import gzip
import io
import itertools
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import HeaderDataError

from unetr_nnunet.images.compressed import CHUNK_BYTES, DamagedFileError, gunzip_chunks
from unetr_nnunet.images.grid import LPS_TO_RAS, SAID_BEYOND_MM, GeometryError, Grid, distance_mm, tolerance_mm
from unetr_nnunet.images.orientation import directions

_EXACT_IN_FLOAT32 = 2**24
_MOST_COMPRESSED = 1040
"""gzip packs 1032 bytes into one at best; a header that promises more is wrong."""
_SILENT = logging.getLogger(f"{__name__}.nibabel")
_SILENT.propagate = False
_SILENT.addHandler(logging.NullHandler())


@dataclass(frozen=True)
class NiftiVolume:
    """A NIfTI file that is being read.

    Attributes:
        header: the ``nibabel.Nifti1Header``.
        zooms_mm: voxel size along x, y, z as it is written; nibabel and SimpleITK make 1 of 0 and drop a sign.
        pieces: flat arrays of the stored type, consecutive in the file's order (first axis fastest).
            Exhausting the iterator checks the whole file, and may raise `DamagedFileError`.
    """

    header: Any
    zooms_mm: npt.NDArray[np.float64]
    pieces: Iterator[npt.NDArray[Any]]

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along the file's axes."""
        return tuple(self.header.get_data_shape())

    @property
    def scaling(self) -> tuple[float, float]:
        """Slope and intercept from stored to real values.

        Raises:
            DamagedFileError: they are not finite.
        """
        try:
            slope, intercept = self.header.get_slope_inter()
        except HeaderDataError as error:
            raise DamagedFileError(f"has no usable scaling: {error}") from error
        return (1.0, 0.0) if slope is None else (float(slope), float(intercept))

    @property
    def is_scaled(self) -> bool:
        """Whether real values differ from stored ones."""
        return self.scaling != (1.0, 0.0)

    def values(self) -> Iterator[npt.NDArray[Any]]:
        """Yield the pieces as real values; those that are not scaled keep their stored type."""
        slope, intercept = self.scaling
        return (piece * slope + intercept for piece in self.pieces) if self.is_scaled else self.pieces

    def grid(self, assumed_orientation: str | None = None) -> tuple[Grid, list[str]]:
        """Return where the volume lies, and notes on how that was understood.

        Args:
            assumed_orientation: orientation code for a file that has none; None to refuse such a file.

        Raises:
            GeometryError: the header tells no geometry, or two.
            ValueError: it is not one 3-D volume.
        """
        shape = _three_axes(self.shape)
        if not np.isfinite(self.zooms_mm).all() or min(self.zooms_mm) <= 0:
            sizes = " x ".join(f"{number:.6g}" for number in self.zooms_mm)
            raise GeometryError(f"has voxels of {sizes} mm; each must be above 0", "correct its header")
        has_qform, has_sform = (int(self.header[f"{form}_code"]) > 0 for form in ("qform", "sform"))
        if has_sform:
            sform = Grid.of_ras(shape, self.zooms_mm, np.asarray(self.header.get_sform(), np.float64))
            return sform, self._refuse_two_places(sform) if has_qform else []
        if has_qform:
            return self._qform(self.header, shape), []
        if assumed_orientation is None:
            fact = "does not say how it is oriented (qform and sform codes are 0)"
            raise GeometryError(fact, "set one of them, or predict with --assume-orientation")
        grid = Grid(shape, self.zooms_mm, np.zeros(3), directions(assumed_orientation))
        return grid, [f"its header does not say how it is oriented; {assumed_orientation} is assumed"]

    def _qform(self, header: Any, shape: tuple[int, ...]) -> Grid:
        try:
            affine = header.get_qform()
        except (HeaderDataError, ValueError) as error:  # such as a quaternion that is longer than 1
            raise GeometryError(f"has no usable qform: {error}", "set its code to 0 or correct it") from error
        return Grid.of_ras(shape, self.zooms_mm, np.asarray(affine, np.float64))

    def _refuse_two_places(self, sform: Grid) -> list[str]:
        """Return a note where the qform places the volume a little differently; refuse half a voxel."""
        qform, (mended, _) = self._qform(self.header, sform.size), sform.mended()
        as_qform = self.header.copy()  # a qform is a quaternion, whose float32 are coarse near half a turn
        as_qform.set_qform(LPS_TO_RAS @ mended.affine(), 1)
        off_mm = min(distance_mm(qform, mended), distance_mm(qform, self._qform(as_qform, sform.size)))
        if not off_mm < tolerance_mm(sform):
            fact = f"contradicts itself: its qform and sform place it {off_mm:.3g} mm apart, half a voxel or more"
            raise GeometryError(fact, "set the code of the wrong one to 0, or correct it")
        if off_mm <= SAID_BEYOND_MM:
            return []
        return [f"its qform and sform place it {off_mm:.2g} mm apart, less than half a voxel; the sform is used"]


def open_nifti(stream: IO[bytes], gzipped: bool = True) -> NiftiVolume:
    """Begin to read a file.

    Args:
        stream: the bytes of a ``.nii.gz`` file.
        gzipped: False for those of a ``.nii`` file.

    Raises:
        DamagedFileError: not a whole NIfTI-1 file of one real number a voxel.
    """
    blocks = gunzip_chunks(stream) if gzipped else iter(lambda: stream.read(CHUNK_BYTES), b"")
    start = b""
    for block in blocks:
        start += block
        if len(start) >= nibabel.Nifti1Header.sizeof_hdr:
            break
    if start[344:348] != b"n+1\0":
        raise DamagedFileError("is not a single-file NIfTI-1 image (no 'n+1' mark in its header)")
    try:
        header = nibabel.Nifti1Header.from_fileobj(io.BytesIO(start), check=False)
        zooms_mm = np.asarray(header["pixdim"][1:4], np.float64)
        header.check_fix(_SILENT)
        dtype, shape = header.get_data_dtype(), header.get_data_shape()
        offset_bytes = max(int(header.get_data_offset()), nibabel.Nifti1Header.sizeof_hdr)
    except (HeaderDataError, KeyError, OverflowError, ValueError) as error:
        raise DamagedFileError(f"has an unreadable NIfTI header ({error})") from error
    if dtype.kind not in "iuf":
        name = "complex values" if dtype.kind == "c" else "a colour image"
        raise DamagedFileError(f"holds {name}; one real number a voxel is needed")
    if min(shape, default=0) < 0:
        raise DamagedFileError(f"has an unreadable NIfTI header (shape {shape})")
    pieces = _pieces(itertools.chain([start], blocks), dtype, offset_bytes, math.prod(shape))
    return NiftiVolume(header, zooms_mm, pieces)


def _pieces(
    blocks: Iterator[bytes], dtype: np.dtype[Any], skip_bytes: int, voxel_count: int
) -> Iterator[npt.NDArray[Any]]:
    total_bytes = voxel_count * dtype.itemsize
    remaining_bytes = total_bytes
    tail = b""
    for block in blocks:
        skipped = min(skip_bytes, len(block))
        skip_bytes -= skipped
        piece = tail + block[skipped:]
        usable = min(len(piece) - len(piece) % dtype.itemsize, remaining_bytes)
        if usable:
            yield np.frombuffer(piece, dtype, usable // dtype.itemsize)
        remaining_bytes -= usable
        tail = piece[usable:] if remaining_bytes else b""
    if remaining_bytes:
        raise DamagedFileError(
            f"is cut short: it holds {total_bytes - remaining_bytes} bytes of voxels where its header promises "
            f"{total_bytes}"
        )


def read_nifti(path: Path, assumed_orientation: str | None = None) -> tuple[npt.NDArray[Any], Grid, list[str]]:
    """Read a volume, gzipped or not.

    Args:
        path: of a ``.nii`` or ``.nii.gz`` file.
        assumed_orientation: see `NiftiVolume.grid`.

    Returns:
        The voxels (Z, Y, X), scaled, whole numbers as integers where both the stored values and the scaling are; where
        they lie; and notes on that.

    Raises:
        ValueError: damaged, cut short, not one 3-D volume of single values, or without a clear geometry.
    """
    with path.open("rb") as stream:
        gzipped = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if gzipped and path.suffix.lower() != ".gz":
            raise ValueError("is gzipped; name it .nii.gz")
        volume = open_nifti(stream, gzipped)
        shape = _three_axes(volume.shape)
        stored = volume.header.get_data_dtype()
        needed_bytes = math.prod(shape) * stored.itemsize
        if needed_bytes > path.stat().st_size * _MOST_COMPRESSED:
            raise ValueError(f"is cut short: its header promises {needed_bytes} bytes of voxels")
        grid, notes = volume.grid(assumed_orientation)
        return _voxels(volume, stored, shape), grid, notes


def _three_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the voxels along x, y, z."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise ValueError(f"is {len(shape)}-dimensional (shape {shape}); one 3-D volume is needed")
    if min(shape) < 1:
        raise ValueError(f"holds no voxels (shape {shape})")
    return shape


def _voxels(volume: NiftiVolume, stored: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    own_type = np.dtype(np.float64) if stored.itemsize > 8 else stored.newbyteorder("=")
    voxels = np.empty(math.prod(shape), np.float32 if volume.is_scaled else own_type)
    filled = 0
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
        for piece in volume.values():
            voxels[filled : filled + len(piece)] = piece
            filled += len(piece)
    whole = stored.kind != "f" and volume.is_scaled and all(number.is_integer() for number in volume.scaling)
    if whole and np.abs(voxels).max() < _EXACT_IN_FLOAT32:
        voxels = voxels.astype(np.int32)
    return voxels.reshape(shape[::-1])


def write_nifti(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64], path: Path, header: Any = None) -> None:
    """Write a file in the type of its voxels.

    Args:
        voxels: (Z, Y, X).
        affine: (4, 4), from voxels x, y, z to RAS in mm; sform, and qform as near as it can be.
        path: ``.nii`` or ``.nii.gz`` file to write.
        header: a ``nibabel.Nifti1Header`` to take over; None for a plain one, in mm.
    """
    nibabel.save(nifti_image(voxels, affine, header), path)


def nifti_bytes(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> bytes:
    """Return the content of a ``.nii.gz`` file, always the same for the same voxels (Z, Y, X), see `write_nifti`."""
    return gzip.compress(nifti_image(voxels, affine).to_bytes(), compresslevel=6, mtime=0)


def nifti_image(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64], header: Any = None) -> Any:
    """Return the ``nibabel.Nifti1Image`` of voxels (Z, Y, X), see `write_nifti`."""
    image = nibabel.Nifti1Image(voxels.T, affine, header)
    if header is None:
        image.header.set_xyzt_units("mm")
        image.set_qform(affine, code=1)
        image.set_sform(affine, code=1)
    return image
