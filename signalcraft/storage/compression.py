"""Compression of stored bodies with zstd, in this process rather than in PostgreSQL.

Measured with bodies of 6.5 kB: stored as text, a body costs PostgreSQL 112 us, most of it for parsing the literal and
for its own compression; stored as compressed bytes, 36 us. Compressing takes 15 us, with the GIL released; zlib would
take 37 us for the same size.
"""

import threading
from typing import Final

import zstandard
from zstandard import ZstdCompressor

#: Higher levels save too little to matter.
_LEVEL: Final = 1
#: A zstd frame begins with this (RFC 8878, section 3.1.1); JSON never does.
_MAGIC: Final = b"\x28\xb5\x2f\xfd"


class _Compressors(threading.local):
    """One compressor per thread: a new one for each body takes twice as long."""

    def __init__(self) -> None:
        self.compressor = ZstdCompressor(level=_LEVEL)


_compressors = _Compressors()


def compress(body: bytes) -> bytes:
    """Compress ``body`` with zstd."""
    return _compressors.compressor.compress(body)


def decompress(stored: bytes) -> bytes:
    """Return the original body.

    Bodies stored before compression existed are returned unchanged.
    """
    return zstandard.decompress(stored) if stored.startswith(_MAGIC) else stored
