"""Entity tags: whether a poller has the newest answer, and whether a change is meant for the group as it stands.

The tag of a group is its version, a dot, and a digest of the whole answer. ``If-None-Match`` compares all of it, so an
alert that joined is news; ``If-Match`` looks at the version alone, so an alert does not stand in a user's way.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

from flask import Response, jsonify, request
from werkzeug.datastructures import ETags

from signalcraft.api import context, response_schemas
from signalcraft.api.request_schemas import Listing
from signalcraft.groups.queries import Page, Position
from signalcraft.storage.database import session

Fetch = Callable[[Position | None], Page]
Dump = Callable[[response_schemas.Row], response_schemas.Json]

NDJSON: Final = "application/x-ndjson"
#: Digits of a version that are read; more cannot be one.
_MAX_DIGITS: Final = 18


def position_after(listing: Listing) -> Position | None:
    """Return the position after which the page of ``listing`` begins; None for the first page.

    Raises:
        InvalidCursor: another list gave the cursor out.
    """
    return context.current().cursors.read(listing.cursor, scope=listing.scope) if listing.cursor is not None else None


def next_cursor(page: Page, listing: Listing) -> str | None:
    """Return the cursor of the page after ``page``; None after the last."""
    return context.current().cursors.write(page.end, scope=listing.scope) if page.end else None


def tagged(answer: response_schemas.Json, version: int | None = None) -> Response:
    """The answer with its ETag; 304 to a poller that has it. ``If-Match`` is for changes, and means nothing here."""
    response = jsonify(answer)
    response.set_etag(etag(response.get_data(), version))
    response.make_conditional({name: value for name, value in request.environ.items() if name != "HTTP_IF_MATCH"})
    response.headers["Cache-Control"] = "private, no-cache"  # kept, and asked about each time
    return response


def streamed(fetch: Fetch, dump: Dump) -> Response:
    """A line for each row, page by page. The first page is there before the answer begins, so that it can be a 503."""
    with session():
        first = fetch(None)
    pages = chain([first], _following(fetch, first.end))
    lines = ("".join(f"{json.dumps(dump(row))}\n" for row in page.rows) for page in pages)
    return Response(lines, mimetype=NDJSON)


def _following(fetch: Fetch, after: Position | None) -> Iterator[Page]:
    while after is not None:
        with session():
            page = fetch(after)
        yield page
        after = page.end


def etag(body: bytes, version: int | None = None) -> str:
    """The tag of an answer; with its ``version``, of a group's."""
    digest = hashlib.sha256(body).hexdigest()[:16]
    return digest if version is None else f"{version}.{digest}"


def parse_if_match(if_match: ETags) -> frozenset[int] | None:
    """The versions that an ``If-Match`` names; None where any will do.

    A weak tag counts too: a proxy that compresses makes weak ones out of ours, and the version in it is as good.
    """
    if not if_match or if_match.star_tag:
        return None
    tags = if_match.as_set(include_weak=True)
    versions = (one.partition(".")[0] for one in tags if one)  # Werkzeug reads some junk as None
    return frozenset(int(version) for version in versions if version.isdecimal() and len(version) <= _MAX_DIGITS)
