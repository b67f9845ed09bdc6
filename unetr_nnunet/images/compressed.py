"""Decompress gzip and zlib streams piece by piece, with their checksums. Formats: RFC 1950, RFC 1952."""

import zlib
from collections.abc import Iterator
from typing import IO

READ_BYTES = 1 << 18
CHUNK_BYTES = 1 << 20
GZIP = 31
"""zlib's way of saying "with a gzip header and trailer, CRC checked"."""
GZIP_OR_ZLIB = 47
"""Likewise, or with zlib's own header and checksum."""


class DamagedFileError(ValueError):
    """The file is cut off, corrupt, or not what its name says. The message is the bare fact."""


def gunzip_chunks(stream: IO[bytes], window_bits: int = GZIP) -> Iterator[bytes]:
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
        raise DamagedFileError(f"is not a whole gzip file ({error})") from error
    if not decoder.eof:
        raise DamagedFileError("is cut short: its gzip stream has no end")
