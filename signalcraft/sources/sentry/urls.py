"""Parse Sentry's URLs, and build canonical links.

One issue has several URLs: ``https://{org}.sentry.io/issues/7/`` in issues, ``…/organizations/{org}/
issues/7/events/…/`` in events, ``/{org}/{project}/issues/7/`` in old installations, and the API's. An
event delivery has no field for the slug of its project or organization; its URLs have both.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from signalcraft.sources import cleaning
from signalcraft.sources.cleaning import LINK_LIMIT

SAAS = "https://sentry.io"

# Scheme, host and port, path of plain segments, anything. No part can match the start of the next, so the time is
# linear.
_URL = re.compile(
    r"(https?)://((?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?)((?:/[\w.~-]*)*)(?:[?#].*)?",
    re.IGNORECASE | re.ASCII,
)
_NUMBER = re.compile(r"[0-9]{1,19}")
_EVENT = re.compile(r"[0-9a-f]{32}")
# Subdomains of sentry.io that are not organizations: regions and Sentry's own pages.
_NO_ORGANIZATION = frozenset({"www", "us", "us1", "us2", "de", "eu", "s4s", "s4s2"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SentryUrl:
    """The parts of one URL; missing parts are empty. ``base`` is scheme, host, port and sub-path."""

    base: str
    org: str = ""
    project: str = ""
    issue_id: str = ""
    event_id: str = ""


def read(value: object) -> SentryUrl | None:
    """Return the parts of ``value``, a plain http(s) URL.

    Anything else is ``None``.
    """
    if not isinstance(value, str) or len(value) > LINK_LIMIT or not value.isascii():
        return None
    return _read(value)


@lru_cache(maxsize=64)  # the project and the link read the same URL
def _read(value: str) -> SentryUrl | None:
    match = _URL.fullmatch(value)
    if match is None:
        return None
    scheme, host, path = match.groups()
    segments = [segment for segment in path.split("/") if segment]
    return None if ".." in segments else _parts(scheme.lower(), host.lower(), segments)


def _parts(scheme: str, host: str, segments: list[str]) -> SentryUrl:
    at = dict(zip(reversed(segments), reversed(range(len(segments))), strict=True))
    org, project, prefix = _owners(segments, at)
    base = "/".join([f"{scheme}://{host}", *segments[:prefix]])
    if host == "sentry.io" or host.endswith(".sentry.io"):
        base = SAAS
        subdomain = host.removesuffix("sentry.io").rstrip(".")
        org = org or ("" if subdomain in _NO_ORGANIZATION else subdomain)
    issue_id, event_id = _after(segments, at.get("issues")), _after(segments, at.get("events"))
    return SentryUrl(
        base=base,
        org=org,
        project=project,
        issue_id=issue_id if _NUMBER.fullmatch(issue_id) else "",
        event_id=event_id if _EVENT.fullmatch(event_id) else "",
    )


def _owners(segments: list[str], at: Mapping[str, int]) -> tuple[str, str, int]:
    # Organization, project, and the number of segments of the sub-path before them.
    end = len(segments)
    api, organizations, issues = at.get("api", end), at.get("organizations", end), at.get("issues", 0)
    if organizations < end:
        return _after(segments, organizations), "", min(api, organizations)
    if api < end:
        owners = segments[at.get("projects", end) + 1 :][:2]
        return (owners[0], owners[1], api) if len(owners) == 2 else ("", "", api)
    if issues >= 2:
        return segments[issues - 2], segments[issues - 1], issues - 2
    return "", "", issues


def _after(segments: list[str], position: int | None) -> str:
    return segments[position + 1] if position is not None and position + 1 < len(segments) else ""


def issue_link(urls: Iterable[SentryUrl], issue_id: str | None) -> str | None:
    """Return the canonical link to an issue.

    It is under the first organization that a URL names. A short id has none.
    """
    if issue_id is None or not _NUMBER.fullmatch(issue_id):
        return None
    for url in urls:
        if url.org:
            return f"{url.base}/organizations/{url.org}/issues/{issue_id}/"
    return None


def as_sent(value: object) -> str | None:
    """Return ``value`` if it is a usable http(s) URL.

    It is unchanged; anything else is ``None``.
    """
    return None if read(value) is None else cleaning.link(value)
