"""JSON and NDJSON responses, and their entity tags.

The tag of a group is its version, a dot, and a digest of the whole response. ``If-None-Match`` compares all of it, so a
poller sees an alert that joined; ``If-Match`` compares only the version, so an alert does not make an update fail.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

from flask import Response, jsonify, request
from werkzeug.http import parse_etags

from signalcraft.api import context
from signalcraft.groups.reading import group_schema
from signalcraft.groups.reading.pages import Page, Position
from signalcraft.groups.reading.requests import Listing
from signalcraft.storage.database import session

Fetch = Callable[[Position | None], Page]
Dump = Callable[[group_schema.Row], group_schema.Json]

NDJSON: Final = "application/x-ndjson"
#: A version has at most 18 digits.
_MAX_DIGITS: Final = 18


def position_after(listing: Listing) -> Position | None:
    """Return the position after which ``listing``'s page begins.

    It is None for the first page.

    Raises:
        InvalidCursor: the cursor is not one of this list.
    """
    return context.current().cursors.read(listing.cursor, scope=listing.scope)


def next_cursor(page: Page, listing: Listing) -> str | None:
    """Return the cursor of the page after ``page``.

    It is None after the last.
    """
    return context.current().cursors.write(page.end, scope=listing.scope)


def tagged(body: group_schema.Json, version: int | None = None) -> Response:
    """Return ``body`` with its ETag, or 304.

    It is 304 if ``If-None-Match`` has the tag. ``If-Match`` applies to updates only.
    """
    response = jsonify(body)
    response.set_etag(etag(response.get_data(), version))
    response.make_conditional({name: value for name, value in request.environ.items() if name != "HTTP_IF_MATCH"})
    response.headers["Cache-Control"] = "private, no-cache"  # cached, but revalidated each time
    return response


def streamed(fetch: Fetch, dump: Dump) -> Response:
    """Stream a line of JSON per row, page by page.

    The first page is fetched before the response begins, so an outage can still become a 503.
    """
    with session():
        first = fetch(None)
    pages = chain([first], _remaining_pages(fetch, first.end))
    lines = ("".join(f"{json.dumps(dump(row))}\n" for row in page.rows) for page in pages)
    return Response(lines, mimetype=NDJSON)


def _remaining_pages(fetch: Fetch, after: Position | None) -> Iterator[Page]:
    while after is not None:
        with session():
            page = fetch(after)
        yield page
        after = page.end


def etag(body: bytes, version: int | None = None) -> str:
    """Return the tag of a response body.

    For a group it is prefixed with ``version``.
    """
    digest = hashlib.sha256(body).hexdigest()[:16]
    return digest if version is None else f"{version}.{digest}"


def parse_if_match(if_match: str | None) -> frozenset[int] | None:
    """Return the versions in the header ``If-Match``; None if any version matches.

    A header that names no tag matches no version: its client does not mean to update any. Weak tags count too: a
    compressing proxy weakens our tags, and the version in them stays valid.
    """
    tags = parse_etags(if_match)
    if if_match is None or tags.star_tag:
        return None
    versions = (tag.partition(".")[0] for tag in tags.as_set(include_weak=True) if tag)  # Werkzeug's for junk: None
    return frozenset(int(version) for version in versions if version.isdecimal() and len(version) <= _MAX_DIGITS)
