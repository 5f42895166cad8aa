"""What a body is about: its event, its issue, its project. Fields first, URLs where no field says."""

import re

from signalcraft.sources import cleaning
from signalcraft.sources.sentry import urls
from signalcraft.sources.sentry.field_paths import Path, Reader
from signalcraft.sources.sentry.fields import AlertFields

_DASHED = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def event_identifier(value: object) -> str | None:
    """An event's id: 32 lower-case hex digits as Sentry writes it, whichever spelling of a UUID came."""
    name = cleaning.identifier(value)
    if name is None:
        return None
    return name.replace("-", "").lower() if len(name) == 32 or _DASHED.fullmatch(name) else name


def event_id(reader: Reader, fields: AlertFields) -> str | None:
    """The id of the event that a body reports."""
    found = reader.first(fields.event_id, event_identifier, "an event id")
    return found or next((url.event_id for url in reader.each(fields.urls, urls.read) if url.event_id), None)


def issue_id(reader: Reader, fields: AlertFields) -> str | None:
    """The id of the issue that a body is about."""
    found = reader.first(fields.issue_id, cleaning.identifier, "an issue id")
    return found or next((url.issue_id for url in reader.each(fields.urls, urls.read) if url.issue_id), None)


def issue_of_occurrence(reader: Reader, fields: AlertFields) -> str | None:
    """The issue of an event that is there because something occurred (slow queries, a missed check-in), else ``None``.

    Such an event may be of several issues at a time; an error is of one.
    """
    if not any(reader.each(fields.occurrence, _as_object)):
        return None
    return issue_id(reader, fields)


def _as_object(value: object) -> dict[str, object] | None:
    return value if isinstance(value, dict) and value else None


def project_slug(reader: Reader, fields: AlertFields) -> str:
    """The slug of the project, empty where the body does not tell it.

    A metric alert may watch several projects: the first by name stands for them, however they are ordered.
    """
    for path in fields.project:
        name = _slug_in(path.follow(reader.body))
        if name:
            return _cleaned(reader, path, name)
    for path in fields.urls:
        url = urls.read(path.follow(reader.body))
        if url and url.project:
            return _cleaned(reader, path, url.project)
    return ""


def project_id(reader: Reader, fields: AlertFields) -> str:
    """The number of the project, empty where the body does not tell it."""
    return next(iter(reader.each(fields.project_id, cleaning.identifier)), "")


def _slug_in(value: object) -> str:
    """The slug in a field that may also hold a number, or a list of slugs."""
    if isinstance(value, list):
        value = min((each for each in value if isinstance(each, str)), default="")
    return value if isinstance(value, str) and not value.isdigit() else ""


def _cleaned(reader: Reader, path: Path, name: str) -> str:
    slug, was_odd = cleaning.slug(name)
    if was_odd:
        reader.warn(path, "is not a project's slug as Sentry writes it; it was cleaned")
    return slug
