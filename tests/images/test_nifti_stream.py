import gzip
import io

import nibabel
import numpy as np
import pytest

from unetr_nnunet.images import nifti_stream
from unetr_nnunet.images.nifti_stream import DamagedFileError, gunzip_chunks, open_nifti


def nifti_bytes(voxels):
    return gzip.compress(nibabel.Nifti1Image(voxels, np.diag([1, 2, 3, 1])).to_bytes())


def read_all(data, gzipped=True):
    header, chunks = open_nifti(io.BytesIO(data), gzipped)
    return header, np.concatenate(list(chunks))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">i2", np.float32, np.float64])
@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000, 1 << 20])
def test_voxels_equal_nibabels(dtype, chunk_bytes, monkeypatch):
    monkeypatch.setattr(nifti_stream, "CHUNK_BYTES", chunk_bytes)
    voxels = np.random.default_rng(0).integers(0, 200, (5, 4, 3)).astype(dtype)
    header, read = read_all(nifti_bytes(voxels))
    assert header.get_data_shape() == (5, 4, 3)
    assert header.get_zooms() == (1, 2, 3)
    assert np.array_equal(read.reshape((5, 4, 3), order="F"), voxels)
    assert np.array_equal(read_all(gzip.decompress(nifti_bytes(voxels)), gzipped=False)[1], read)


def test_no_piece_is_larger_than_stated(monkeypatch):
    monkeypatch.setattr(nifti_stream, "CHUNK_BYTES", 1000)
    pieces = list(gunzip_chunks(io.BytesIO(gzip.compress(bytes(100_000)))))
    assert b"".join(pieces) == bytes(100_000)
    assert max(map(len, pieces)) <= 1000


def test_several_gzip_members_and_padding():
    data = gzip.compress(b"first ") + gzip.compress(b"second") + bytes(512)
    assert b"".join(gunzip_chunks(io.BytesIO(data))) == b"first second"


def test_every_truncation_is_noticed():
    data = nifti_bytes(np.random.default_rng(0).integers(0, 200, (5, 4, 3)).astype(np.int16))
    for size in range(len(data)):
        with pytest.raises(DamagedFileError):
            read_all(data[:size])
    plain = gzip.decompress(data)
    for size in range(len(plain)):
        with pytest.raises(DamagedFileError):
            read_all(plain[:size], gzipped=False)


def test_a_flipped_bit_is_noticed():
    data = bytearray(nifti_bytes(np.random.default_rng(0).integers(0, 200, (50, 4, 3)).astype(np.int16)))
    data[-30] ^= 1
    with pytest.raises(DamagedFileError):
        read_all(bytes(data))


def test_too_few_voxels():
    whole = gzip.decompress(nifti_bytes(np.zeros((5, 4, 3), np.int16)))
    with pytest.raises(DamagedFileError, match="holds 118 bytes of voxels where its header promises 120"):
        read_all(gzip.compress(whole[:-2]))


@pytest.mark.parametrize("content", [b"", b"hello", bytes(400)])
def test_not_a_nifti_file(content):
    with pytest.raises(DamagedFileError, match="NIfTI"):
        read_all(gzip.compress(content))
    with pytest.raises(DamagedFileError, match="gzip"):
        read_all(content)


def test_unknown_voxel_type():
    data = bytearray(gzip.decompress(nifti_bytes(np.zeros((2, 2, 2), np.int16))))
    data[70:72] = (9999).to_bytes(2, "little")
    with pytest.raises(DamagedFileError, match="header"):
        read_all(gzip.compress(bytes(data)))
