"""Entity tags: whether a poller has the newest answer, and whether a change is meant for the group as it stands.

The tag of a group is its version, a dot, and a digest of the whole answer. ``If-None-Match`` compares all of it, so an
alert that joined is news; ``If-Match`` looks at the version alone, so an alert does not stand in a user's way.
"""

import hashlib
from typing import Final

from werkzeug.datastructures import ETags

_DIGITS: Final = 18


def tag(body: bytes, version: int | None = None) -> str:
    """The tag of an answer; with its ``version``, of a group's."""
    digest = hashlib.sha256(body).hexdigest()[:16]
    return digest if version is None else f"{version}.{digest}"


def named_by(if_match: ETags) -> frozenset[int] | None:
    """The versions that an ``If-Match`` names; None where any will do.

    A weak tag counts too: a proxy that compresses makes weak ones out of ours, and the version in it is as good.
    """
    if not if_match or if_match.star_tag:
        return None
    tags = if_match.as_set(include_weak=True)
    versions = (one.partition(".")[0] for one in tags if one)  # Werkzeug reads some junk as None
    return frozenset(int(version) for version in versions if version.isdecimal() and len(version) <= _DIGITS)
