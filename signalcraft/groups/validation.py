"""Validate alerts before insert.

Sources already clean what they read, so these checks rarely fail. Without them one bad alert would fail the whole
transaction, and all other alerts of the batch.
"""

from itertools import chain
from typing import Final

from signalcraft.domain.errors import NotStorable
from signalcraft.groups.bursts import PendingEvent

#: In characters, of up to four bytes. Indexed values must fit into a third of a page, 2,704 bytes; other limits are far
#: above the lengths that sources truncate to.
MAX_LENGTHS: Final = {"source_event_id": 500, "project": 200, "environment": 200, "fingerprint": 600, "title": 500}


def validate(pending_event: PendingEvent) -> None:
    """Check the lengths, texts and times of an alert.

    Raises:
        NotStorable: names the invalid field.
    """
    alert = pending_event.alert
    for name, max_length in MAX_LENGTHS.items():
        text = getattr(alert, name)
        if not text:
            raise NotStorable("is empty", field=name)
        if len(text) > max_length:
            raise NotStorable(f"is longer than {max_length} characters", field=name)
        _check_text(name, text)
    _check_text("description", alert.description)
    _check_text("link", alert.link or "")
    _check_text("issue_id", alert.issue_id or "")
    _check_text("tags", "".join(chain.from_iterable(alert.tags)))
    _check_text("triggered_rule", "".join(pending_event.rules))
    for name, moment in (("occurred_at", alert.occurred_at), ("received_at", alert.received_at)):
        if moment.utcoffset() is None:
            raise NotStorable("has no time zone", field=name)


def _check_text(name: str, text: str) -> None:
    """Refuse U+0000 and lone surrogates, which PostgreSQL's text cannot store."""
    if "\0" in text:
        raise NotStorable("holds U+0000", field=name)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise NotStorable("holds half of a surrogate pair", field=name) from None
