"""Ids of the event, the issue and the project of a body, read from fields, else from URLs."""

import re

from signalcraft.sources import cleaning
from signalcraft.sources.sentry import urls
from signalcraft.sources.sentry.field_paths import Path, Reader
from signalcraft.sources.sentry.fields import AlertFields

NO_PROJECT = "unknown"

_DASHED = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def event_identifier(value: object) -> str | None:
    """Return an event id, with UUIDs as Sentry writes them.

    That is 32 lower-case hex digits.
    """
    name = cleaning.identifier(value)
    if name is None:
        return None
    return name.replace("-", "").lower() if len(name) == 32 or _DASHED.fullmatch(name) else name


def event_id(reader: Reader, fields: AlertFields) -> str | None:
    """Return the event's id, from a field or a URL."""
    found = reader.first(fields.event_id, event_identifier, "an event id")
    return found or next((url.event_id for url in reader.each(fields.urls, urls.read) if url.event_id), None)


def issue_id(reader: Reader, fields: AlertFields) -> str | None:
    """Return the issue's id, from a field or a URL, else its short id."""
    found = reader.first(fields.issue_id, cleaning.identifier, "an issue id")
    found = found or next((url.issue_id for url in reader.each(fields.urls, urls.read) if url.issue_id), None)
    if found or not fields.short_id:
        return found
    short = reader.first(fields.short_id, cleaning.identifier, "an issue's short id")
    if short:
        reader.warn(fields.issue_id[0], "is missing; the short id stands for it")
    return short


def owner(reader: Reader, fields: AlertFields) -> str:
    """Return what an event id is unique in: the issue, else the project.

    Sentry's event ids are unique within a project only, and one event may belong to several issues.
    """
    return issue_id(reader, fields) or f"project:{project(reader, fields)}"


def names_nothing(reader: Reader, fields: AlertFields) -> bool:
    """Return whether the body names no event, no time and no rule.

    The oldest senders' equal bodies prove no redelivery: they send the same one for each event, and never again.
    """
    if event_id(reader, fields) or any(path.follow(reader.body) for path in fields.rule):
        return False
    return reader.first(fields.occurred_at, cleaning.time, "a time") is None


def project(reader: Reader, fields: AlertFields) -> str:
    """Return the project's slug, else its number, else ``NO_PROJECT``."""
    slug = project_slug(reader, fields)
    if slug:
        return slug
    number = project_id(reader, fields)
    reader.warn(fields.project[0], "is missing; the project goes by its number" if number else "is missing")
    return f"project-{number}".lower() if number else NO_PROJECT


def project_slug(reader: Reader, fields: AlertFields) -> str:
    """Return the project's slug, empty if there is none.

    A metric alert may watch several projects: the first by name represents them, in whatever order they are sent.
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
    """Return the project's number, empty if there is none."""
    return next(iter(reader.each(fields.project_id, cleaning.identifier)), "")


def _slug_in(value: object) -> str:
    # The field may also hold a number, or a list of slugs.
    if isinstance(value, list):
        value = min((each for each in value if isinstance(each, str)), default="")
    return value if isinstance(value, str) and not value.isdigit() else ""


def _cleaned(reader: Reader, path: Path, name: str) -> str:
    slug, was_odd = cleaning.slug(name)
    if was_odd:
        reader.warn(path, "is not a project's slug as Sentry writes it; it was cleaned")
    return slug
