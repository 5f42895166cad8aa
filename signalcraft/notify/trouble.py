"""Tell of trouble of our own: rows of ``notification`` without a group. Call everything inside ``database.session()``.

It goes to the fallback receiver, else to every receiver; never to the one that it is about.
"""

from collections.abc import Callable
from typing import Final

from signalcraft.notify.config import NotifyConfig
from signalcraft.storage.database import database, session

_CRITICAL: Final = 4
_INSERT: Final = """
    INSERT INTO notification (receiver, route, mode, reason, rank, title, happened_at, due_at)
    SELECT name, '', 'event', %(reason)s, %(rank)s, %(title)s, now(), now() FROM unnest(%(receivers)s) AS name"""


def tell(config: NotifyConfig, reason: str, title: str, *, about: str | None = None) -> int:
    """Queue a message for the fallback; return for how many receivers.

    ``reason`` is a stable code, ``title`` a sentence with what to do. ``about`` is the receiver in trouble, if any.
    """
    chosen = [config.fallback] if config.fallback else list(config.receivers)
    receivers = [name for name in chosen if name != about]
    if receivers:
        parameters = {"receivers": receivers, "reason": reason, "title": title, "rank": _CRITICAL}
        database.execute_sql(_INSERT, parameters)
    return len(receivers)


def teller(config: NotifyConfig) -> Callable[[str, str], object]:
    """Return a function that queues a message by its reason and title, in a session of its own."""

    def tell_of(reason: str, title: str) -> None:
        with session():
            tell(config, reason, title)

    return tell_of


def tell_of_broken_receiver(config: NotifyConfig, receiver: str, code: str) -> int:
    """Queue a message that ``receiver`` is broken; return for how many receivers."""
    title = f"Receiver {receiver} is broken ({code}): its messages wait. See signalcraft receivers list"
    return tell(config, "receiver_broken", title, about=receiver)
