"""Compress responses by gzip, for clients that accept it: the API and pages, never deliveries.

Nothing secret stands in a response next to what others have written but the tokens of forms, and those are another
text in each response (``ui.session``): so its length says nothing (BREACH).
"""

from collections.abc import Iterable, Iterator
from typing import Final

from flask import Flask, Response, request
from isal import igzip, isal_zlib

#: Smaller responses fit a packet or two anyway.
_MIN_BYTES: Final = 1_000
_LEVEL: Final = 2
#: zlib's window of 32 kB, with the header and the trailer of gzip.
_GZIP_WINDOW: Final = 31


def compress_responses(app: Flask, scopes: Iterable[str]) -> None:
    """Compress responses of the blueprints named ``scopes``."""
    for scope in scopes:
        app.after_request_funcs[scope].append(compress)


def compress(response: Response) -> Response:
    """Compress a response of at least ``_MIN_BYTES``, or a stream, if its client accepts gzip.

    The tag becomes weak, since a strong one names bytes: ``If-Match`` and ``If-None-Match`` accept it as such.
    """
    response.vary.add("Accept-Encoding")
    if not request.accept_encodings["gzip"] or response.content_encoding or not _is_large(response):
        return response
    response.content_encoding = "gzip"
    tag, _ = response.get_etag()
    if tag:
        response.set_etag(tag, weak=True)
    if response.is_streamed:
        response.response = _stream(response.iter_encoded())
    else:
        response.set_data(igzip.compress(response.get_data(), _LEVEL))
    return response


def _is_large(response: Response) -> bool:
    return response.is_streamed or (response.content_length or 0) >= _MIN_BYTES


def _stream(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Compress ``chunks``, so that each can be read when it arrives."""
    compressor = isal_zlib.compressobj(_LEVEL, wbits=_GZIP_WINDOW)
    for chunk in chunks:
        yield compressor.compress(chunk) + compressor.flush(isal_zlib.Z_SYNC_FLUSH)
    yield compressor.flush()
