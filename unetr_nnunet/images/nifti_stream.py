"""Read a NIfTI-1 file piece by piece, so that checking a CT costs one decompression and no memory to speak of.

nibabel parses the header; its own array access would hold the whole volume, as float64 where the header scales.
Format: https://nifti.nimh.nih.gov/nifti-1 and RFC 1952 (gzip).
"""

import io
import itertools
import math
import zlib
from collections.abc import Iterator
from typing import IO, Any

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import HeaderDataError

READ_BYTES = 1 << 18
CHUNK_BYTES = 1 << 20
GZIP_WINDOW_BITS = 31
"""zlib's way of saying "with a gzip header and trailer, CRC checked"."""
GZIP_OR_ZLIB_WINDOW_BITS = 47
"""Likewise, or with zlib's own header and checksum."""


class DamagedFileError(ValueError):
    """The file is cut off, corrupt, or not what its name says. The message is the bare fact."""


def gunzip_chunks(stream: IO[bytes], window_bits: int = GZIP_WINDOW_BITS) -> Iterator[bytes]:
    """Yield the decompressed content in pieces of at most ``CHUNK_BYTES``, CRC and length checked at the end.

    Raises:
        DamagedFileError: not gzip, corrupt, or cut off.
    """
    decoder = zlib.decompressobj(window_bits)
    try:
        while block := stream.read(READ_BYTES):
            while block:
                if data := decoder.decompress(block, CHUNK_BYTES):
                    yield data
                block = decoder.unconsumed_tail
                if decoder.eof:
                    block = decoder.unused_data.lstrip(b"\0")
                    if block:
                        decoder = zlib.decompressobj(window_bits)
    except zlib.error as error:
        raise DamagedFileError(f"not a whole gzip file ({error})") from error
    if not decoder.eof:
        raise DamagedFileError("the gzip stream is cut off before its end")


def open_nifti(stream: IO[bytes], gzipped: bool = True) -> tuple[Any, Iterator[npt.NDArray[Any]]]:
    """Return the header and an iterator over the stored voxel values.

    Args:
        stream: the bytes of a ``.nii.gz`` file.
        gzipped: False for those of a ``.nii`` file.

    Returns:
        A ``nibabel.Nifti1Header``, and flat arrays of the stored type that follow each other in the file's order
        (first axis fastest). Exhausting the iterator checks the whole file. ``scl_slope`` is not applied.

    Raises:
        DamagedFileError: not a whole NIfTI-1 file; also while iterating.
    """
    blocks = gunzip_chunks(stream) if gzipped else iter(lambda: stream.read(CHUNK_BYTES), b"")
    start = b""
    for block in blocks:
        start += block
        if len(start) >= nibabel.Nifti1Header.sizeof_hdr:
            break
    if start[344:348] != b"n+1\0":
        raise DamagedFileError("not a single-file NIfTI-1 image (no 'n+1' mark in its header)")
    try:
        header = nibabel.Nifti1Header.from_fileobj(io.BytesIO(start))
        dtype = header.get_data_dtype()
        voxel_count = math.prod(header.get_data_shape())
    except (HeaderDataError, KeyError, OverflowError) as error:
        raise DamagedFileError(f"unreadable NIfTI header ({error})") from error
    offset_bytes = max(int(header.get_data_offset()), nibabel.Nifti1Header.sizeof_hdr)
    return header, _voxels(itertools.chain([start], blocks), dtype, offset_bytes, voxel_count)


def _voxels(
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
            f"holds {total_bytes - remaining_bytes} bytes of voxels where its header promises {total_bytes}"
        )
