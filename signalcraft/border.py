"""The border of the store: what may pass into the tables, and what PostgreSQL's refusals mean.

A source cleans what it reads, so that hardly anything is stopped here. What is would otherwise fail the whole
transaction, and with it its neighbours.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Final

from peewee import DataError, IntegrityError, OperationalError
from psycopg2.errors import LockNotAvailable

from signalcraft.domain.errors import DatabaseUnavailable, NotStorable
from signalcraft.models import constraint_name, database, driver_error, exceeds_limit
from signalcraft.runs import Arrival

#: In characters, of up to four bytes. What is indexed has to fit into a third of a page, 2,704 bytes; the rest is far
#: above what sources cut to.
LONGEST: Final = {"source_event_id": 500, "project": 200, "environment": 200, "fingerprint": 600, "title": 500}

#: Two transactions met on the same rows, and one has to try again.
_TRY_AGAIN: Final = frozenset({"alert_group_current_key"})
#: What other constraints say, for people.
_MEANINGS: Final = {
    "alert_event_workspace_id_fkey": "the workspace does not exist",
    "alert_group_workspace_id_fkey": "the workspace does not exist",
    "alert_event_severity_check": "the severity is none of ours",
    "alert_group_severity_check": "the severity is none of ours",
}


def check(arrival: Arrival) -> None:
    """Let an alert pass, or say which field stops it.

    Raises:
        NotStorable: naming the field.
    """
    alert = arrival.alert
    for name, longest in LONGEST.items():
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
    _check_text("triggered_rule", "".join(arrival.rules))
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


@contextmanager
def refusals() -> Iterator[None]:
    """Say by which constraint PostgreSQL refused something, and whether to try again.

    Raises:
        DatabaseUnavailable: another transaction came first.
        NotStorable: it will never be stored as it is.
    """
    try:
        yield
    except IntegrityError as error:
        name = constraint_name(error)
        if name in _TRY_AGAIN:
            raise DatabaseUnavailable(f"another transaction came first: {name}") from error
        raise NotStorable(_MEANINGS.get(name, f"refused by {name}")) from error
    except DataError as error:
        raise NotStorable("PostgreSQL cannot hold one of the values") from error
    except OperationalError as error:
        if not exceeds_limit(error):
            raise
        raise NotStorable("one of the values is too large for PostgreSQL") from error


@contextmanager
def no_long_wait() -> Iterator[None]:
    """For who holds groups and wants more, or makes one current: whoever has that may be waiting for one of those.

    The order of locks keeps nearly all out of a circle, but for the place that a new group takes, and for groups that
    cease to be current while somebody waits for them. PostgreSQL would look for a circle after a second, and end
    either of the two. Part of a transaction.

    Raises:
        DatabaseUnavailable: another transaction came first.
    """
    database.execute_sql("SET LOCAL lock_timeout = '500ms'")
    try:
        yield
    except OperationalError as error:
        if not isinstance(driver_error(error), LockNotAvailable):
            raise
        raise DatabaseUnavailable("another transaction came first, and is not done") from error
    database.execute_sql("SET LOCAL lock_timeout = DEFAULT")
