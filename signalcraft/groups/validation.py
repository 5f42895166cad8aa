"""The border of the store: what may pass into the tables, and what PostgreSQL's refusals mean.

A source cleans what it reads, so that hardly anything is stopped here. What is would otherwise fail the whole
transaction, and with it its neighbours.
"""

from itertools import chain
from typing import Final

from signalcraft.domain.errors import NotStorable
from signalcraft.groups.bursts import PendingEvent

#: In characters, of up to four bytes. What is indexed has to fit into a third of a page, 2,704 bytes; the rest is far
#: above what sources cut to.
MAX_LENGTHS: Final = {"source_event_id": 500, "project": 200, "environment": 200, "fingerprint": 600, "title": 500}


def validate(pending_event: PendingEvent) -> None:
    """Let an alert pass, or say which field stops it.

    Raises:
        NotStorable: naming the field.
    """
    alert = pending_event.alert
    for name, longest in MAX_LENGTHS.items():
        text = getattr(alert, name)
        if not text:
            raise NotStorable("is empty", field=name)
        if len(text) > longest:
            raise NotStorable(f"is longer than {longest} characters", field=name)
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
    """PostgreSQL's text holds neither U+0000 nor half of a surrogate pair."""
    if "\0" in text:
        raise NotStorable("holds U+0000", field=name)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise NotStorable("holds half of a surrogate pair", field=name) from None
