"""Fan out: turn happenings of groups into notifications, as ``routing`` decides.

Each pass takes happenings that were not routed, and inserts the notifications, all in one transaction; so a happening
is routed once, whatever fails, and by however many processes. Call everything inside ``database.session()``.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from signalcraft.domain.alerts import GroupSnapshot, GroupStatus, Severity
from signalcraft.notify.contract import Mode
from signalcraft.notify.routing import FIRST, Card, Happening, LastFirst, NewNotification, Router, Told
from signalcraft.storage.database import database, rows
from signalcraft.storage.sql import Columns, ids_of_key, query

#: Happenings routed in one transaction.
BATCH: Final = 500
#: What happened longer ago is not told: a notifier that was down for days, or a replay of old deliveries.
MAX_AGE: Final = timedelta(hours=24)

_SNAPSHOT = """g.id, g.workspace_id, g.source, g.project, g.environment, g.fingerprint, g.title, g.severity, g.status,
    g.count, g.first_seen_at, g.last_seen_at, g.link, g.previous_group_id"""
_SELECT = f"""
    SELECT h.id AS happening_id, h.kind, h.at, h.actor, h.at < now() - %(max_age)s AS is_old, w.slug, g.group_key,
           e.tags_json, {_SNAPSHOT}
    FROM happening h JOIN workspace w ON w.id = h.workspace_id JOIN alert_group g ON g.id = h.alert_group_id
    LEFT JOIN alert_event e ON e.id = coalesce(h.event_id, (
        SELECT l.id FROM alert_event l WHERE l.alert_group_id = g.id ORDER BY l.received_at DESC, l.id DESC LIMIT 1))"""
_TAKE = f"{_SELECT} WHERE h.routed_at IS NULL ORDER BY h.id LIMIT {BATCH} FOR UPDATE OF h SKIP LOCKED"
_SINCE = f"{_SELECT} WHERE h.at >= %(since)s ORDER BY h.at, h.id"
_OF_GROUP = "SELECT id, kind, at, actor, by, routed_at FROM happening WHERE alert_group_id = %(group)s ORDER BY id"
_ROUTED = "UPDATE happening SET routed_at = now() WHERE id = ANY(%(ids)s)"

_TOLD = """
    SELECT alert_group_id, receiver, bool_or(mode = 'card' AND external_id IS NOT NULL) AS is_posted FROM notification
    WHERE alert_group_id = ANY(%(ids)s) AND NOT is_test GROUP BY alert_group_id, receiver"""
#: When the problem of a key was last told as new, by receiver. A notification that waits counts as told now. OFFSET 0
#: keeps PostgreSQL from joining the groups of all keys first.
_LAST_FIRST = f"""
    SELECT n.receiver, r.group_key, max(coalesce(n.sent_at, n.created_at)),
           max(ARRAY[n.id, n.alert_group_id, (n.external_id IS NOT NULL)::int]) FILTER (WHERE n.mode = 'card')
    FROM {{rows}} CROSS JOIN LATERAL ({ids_of_key("r")} OFFSET 0) AS g
    JOIN notification n ON n.alert_group_id = g.id
    WHERE NOT n.is_test AND (n.mode = 'card' OR n.mode <> 'reply' AND n.reason = ANY(%(first)s))
      AND n.state NOT IN ('given_up', 'gone')
    GROUP BY n.receiver, r.group_key"""
#: Happenings that may keep the card of an earlier group of their key.
_BACK: Final = ("recurred", "regressed")
_KEY_COLUMNS: Columns = {"workspace_id": "bigint", "group_key": "text"}

_INSERT_COLUMNS: Columns = {
    "workspace_id": "bigint",
    "alert_group_id": "bigint",
    "happening_id": "bigint",
    "receiver": "text",
    "route": "text",
    "mode": "text",
    "reason": "text",
    "rank": "smallint",
    "happened_at": "timestamptz",
    "due_at": "timestamptz",
    "urgency": "smallint",
}
#: A card that is there becomes due again; one that is being sent is due once more after that.
_INSERT = f"""
    INSERT INTO notification AS n ({", ".join(_INSERT_COLUMNS)}) SELECT {", ".join(_INSERT_COLUMNS)} FROM {{rows}}
    ON CONFLICT (receiver, alert_group_id) WHERE mode = 'card' DO UPDATE
    SET revision = n.revision + 1, reason = excluded.reason, rank = excluded.rank,
        due_at = CASE WHEN n.state = 'pending' THEN least(n.due_at, excluded.due_at) ELSE excluded.due_at END,
        happened_at = CASE WHEN n.state = 'pending' THEN n.happened_at ELSE excluded.happened_at END,
        urgency = CASE WHEN n.state IN ('pending', 'sending') THEN greatest(n.urgency, excluded.urgency)
                       ELSE excluded.urgency END,
        tries = CASE n.state WHEN 'sent' THEN 0 WHEN 'given_up' THEN least(n.tries, 1) ELSE n.tries END,
        state = CASE WHEN n.state = 'sending' THEN n.state ELSE 'pending' END
    WHERE n.state <> 'gone'"""
#: A problem that recurred keeps its card: the new group takes it over.
_TAKE_OVER_COLUMNS: Columns = {"id": "bigint", "alert_group_id": "bigint"}
_TAKE_OVER = """
    UPDATE notification n SET alert_group_id = r.alert_group_id FROM {rows}
    WHERE n.id = r.id AND NOT EXISTS (
        SELECT FROM notification o WHERE o.mode = 'card' AND o.receiver = n.receiver
          AND o.alert_group_id = r.alert_group_id)"""


class FanOut:
    """Routes happenings that were not routed yet."""

    def __init__(self, router: Router) -> None:
        """Create it."""
        self._router = router

    def run_once(self) -> int:
        """Route up to ``BATCH`` happenings; return how many.

        Raises:
            DatabaseUnavailable: PostgreSQL is unavailable; nothing was routed.
        """
        with database.atomic():
            happenings = [_happening(row) for row in rows(_TAKE, {"max_age": MAX_AGE})]
            if not happenings:
                return 0
            told = _told(happenings)
            found = [new for happening in happenings for new in self._router.decide(happening, told)]
            query(_TAKE_OVER, _TAKE_OVER_COLUMNS, list(_taken_over(found).items()))
            query(_INSERT, _INSERT_COLUMNS, [_row(new) for new in _last_of_each(found)])
            database.execute_sql(_ROUTED, {"ids": [happening.id for happening in happenings]})
        return len(happenings)


def happenings_since(moment: datetime) -> list[Happening]:
    """Return what happened since ``moment``, oldest first, routed or not; none is old."""
    return [_happening(row | {"is_old": False}) for row in rows(_SINCE, {"since": moment, "max_age": MAX_AGE})]


def happenings_of(group_id: int) -> list[dict[str, Any]]:
    """Return what happened to a group, oldest first."""
    return rows(_OF_GROUP, {"group": group_id})


def _taken_over(found: Iterable[NewNotification]) -> dict[int, int]:
    """Return the group that each stored card is handed to."""
    cards = ((new.takes_over, new.happening.group.id) for new in found)
    return {card.id: group_id for card, group_id in cards if card is not None and card.id is not None}


def _last_of_each(found: Iterable[NewNotification]) -> Iterable[NewNotification]:
    """Return the last notification of each row, none for a group whose card another has taken over since."""
    last: dict[tuple[str, int, Mode], NewNotification] = {}
    for new in found:
        if new.takes_over is not None:
            last.pop((new.receiver, new.takes_over.group_id, Mode.CARD), None)
        last[new.identity] = new
    return last.values()


def _row(new: NewNotification) -> tuple[Any, ...]:
    """Return values in the order of ``_INSERT_COLUMNS``."""
    happening = new.happening
    return (
        happening.group.workspace_id,
        happening.group.id,
        happening.id,
        new.receiver,
        new.route,
        new.mode.value,
        new.reason,
        happening.group.severity.rank,
        happening.at,
        new.due_at,
        new.urgency,
    )


def _happening(row: Mapping[str, Any]) -> Happening:
    """Build a happening from a row of ``_SELECT``."""
    values = {name: row[name] for name in GroupSnapshot.__dataclass_fields__ if name != "escalated"}
    values |= {"severity": Severity(row["severity"]), "status": GroupStatus(row["status"])}
    return Happening(
        id=row["happening_id"],
        kind=row["kind"],
        at=row["at"],
        actor=row["actor"],
        is_old=row["is_old"],
        workspace=row["slug"],
        group_key=row["group_key"],
        tags=[(name, value) for name, value in row["tags_json"] or ()],
        group=GroupSnapshot(**values, escalated=False),
    )


def _told(happenings: Sequence[Happening]) -> Told:
    """Read what receivers were told of these groups, and of earlier groups of a key that recurred."""
    by_group: dict[int, set[str]] = defaultdict(set)
    posted: set[tuple[str, int]] = set()
    for row in rows(_TOLD, {"ids": [happening.group.id for happening in happenings]}):
        by_group[row["alert_group_id"]].add(row["receiver"])
        if row["is_posted"]:
            posted.add((row["receiver"], row["alert_group_id"]))
    keys = {(each.group.workspace_id, each.group_key) for each in happenings if each.kind in _BACK}
    found = query(_LAST_FIRST, _KEY_COLUMNS, sorted(keys), first=list(FIRST))
    last_first = {(receiver, group_key): LastFirst(at=at, card=_card(card)) for receiver, group_key, at, card in found}
    return Told(by_group=by_group, last_first=last_first, posted=posted)


def _card(columns: Sequence[int] | None) -> Card | None:
    """Build a card from a column of ``_LAST_FIRST``."""
    return Card(id=columns[0], group_id=columns[1], is_posted=bool(columns[2])) if columns else None
