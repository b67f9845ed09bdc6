import gzip
import io
import zlib

import pytest

from unetr_nnunet.images import compressed
from unetr_nnunet.images.compressed import GZIP_OR_ZLIB, DamagedFileError, gunzip_chunks

CONTENT = bytes(range(256)) * 40


def test_no_piece_is_larger_than_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "CHUNK_BYTES", 1000)
    pieces = list(gunzip_chunks(io.BytesIO(gzip.compress(bytes(100_000)))))
    assert b"".join(pieces) == bytes(100_000)
    assert max(map(len, pieces)) <= 1000


def test_several_gzip_members_and_padding() -> None:
    data = gzip.compress(b"first ") + gzip.compress(b"second") + bytes(512)
    assert b"".join(gunzip_chunks(io.BytesIO(data))) == b"first second"


def test_zlib_where_it_may_be() -> None:
    data = zlib.compress(CONTENT)
    assert b"".join(gunzip_chunks(io.BytesIO(data), GZIP_OR_ZLIB)) == CONTENT
    with pytest.raises(DamagedFileError, match="gzip"):
        list(gunzip_chunks(io.BytesIO(data)))


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_every_truncation_and_every_flipped_byte_of_the_voxels_is_noticed(pack) -> None:
    data = pack(CONTENT)
    for size in range(0, len(data), 7):
        with pytest.raises(DamagedFileError):
            list(gunzip_chunks(io.BytesIO(data[:size]), GZIP_OR_ZLIB))
    for place in range(10, len(data), 7):  # behind gzip's header, of which not all matters
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(DamagedFileError):
            list(gunzip_chunks(io.BytesIO(bytes(damaged)), GZIP_OR_ZLIB))
