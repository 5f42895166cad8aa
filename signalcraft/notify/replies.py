"""Messages in the thread of a card: what people should notice again. Call everything inside ``database.session()``.

An edit makes no notification in Slack, so a reply says that a problem has escalated or is back. It is shown in the
channel as well, unless that would be noise: a problem that has come back quietly, or for the third time, or one of many
replies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from signalcraft.notify import messages
from signalcraft.notify.contract import Message
from signalcraft.notify.routing import FLAPPING
from signalcraft.storage.database import database
from signalcraft.storage.sql import ids_of_key

Row = dict[str, Any]

#: From the third regression on, with less than ``FLAPPING`` between two, the channel is not told.
_MAX_BROADCASTS: Final = 2

_CARD: Final = """
    SELECT external_id, external_channel FROM notification
    WHERE alert_group_id = %(group)s AND receiver = %(receiver)s AND mode = 'card' AND external_id IS NOT NULL"""
#: When the problem was back within the last day, newest first.
_TIMES: Final = f"""
    SELECT h.at FROM alert_group r CROSS JOIN LATERAL ({ids_of_key("r")}) AS g
    JOIN happening h ON h.alert_group_id = g.id WHERE r.id = %(group)s AND h.kind = %(kind)s
      AND h.at > %(at)s - interval '1 day' AND h.at <= %(at)s
    ORDER BY h.at DESC LIMIT 100"""
_RECENT: Final = """
    SELECT count(*) FROM (
        SELECT FROM notification WHERE receiver = %(receiver)s AND mode = 'reply' AND sent_at > now() - %(period)s
        LIMIT %(limit)s) AS recent"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """How many messages of a period are a storm; 0: none are."""

    messages: int
    period: timedelta


def render(row: Row, group: Row, *, receiver: str, storm: Storm, attempted_at: datetime) -> Message | None:
    """Return the message of the reply ``row`` about ``group``; None if the card is not there any more.

    Of a storm of replies, not all are shown in the channel.
    """
    card = database.execute_sql(_CARD, {"group": group["id"], "receiver": receiver}).fetchone()
    if card is None:
        return None
    problem = {"group": group["id"], "kind": row["reason"], "at": row["happened_at"]}
    back_at = [at for (at,) in database.execute_sql(_TIMES, problem).fetchall()]
    times = _run_length(back_at) if row["reason"] == "regressed" else len(back_at)
    limits = {"receiver": receiver, "period": storm.period, "limit": storm.messages}
    is_storm = storm.messages > 0 and database.execute_sql(_RECENT, limits).fetchone() == (storm.messages,)
    return messages.of_reply(
        row | {"external_id": card[0], "external_channel": card[1]},
        group,
        times=times,
        is_broadcast=not is_storm and is_to_be_noticed(row["reason"], times),
        attempted_at=attempted_at,
    )


def is_to_be_noticed(reason: str, times: int) -> bool:
    """Return whether the channel is told: of escalations and reminders, and of the first regressions in a row."""
    return reason in ("escalated", "reminder") or (reason == "regressed" and times <= _MAX_BROADCASTS)


def _run_length(moments: Sequence[datetime]) -> int:
    """Return how many of ``moments``, newest first, have less than ``FLAPPING`` between them."""
    gaps = pairwise(moments)
    return next((place for place, (newer, older) in enumerate(gaps, 1) if newer - older >= FLAPPING), len(moments))
