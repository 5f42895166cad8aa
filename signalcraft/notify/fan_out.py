"""Fan out: turn happenings of groups into notifications, by rules and routes.

Each pass takes happenings that were not routed, decides whom each concerns, and inserts the notifications, all in one
transaction; so a happening is routed once, whatever fails, and by however many processes. Call everything inside
``database.session()``.

- A *card* receiver has one notification for each group. A happening marks it as due; what is sent is the group as it
  is then.
- An *event* receiver has one notification for each happening that its route tells of. Whoever was told of a group is
  told that it is over, and that it is open again, whatever the route says.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from signalcraft import logs, metrics
from signalcraft.domain.alerts import Decision, GroupSnapshot, GroupStatus, Severity
from signalcraft.domain.notifications import Evaluate
from signalcraft.notify.config import NotifyConfig
from signalcraft.notify.contract import Mode
from signalcraft.notify.routes import Route, Subject, select
from signalcraft.storage.database import database
from signalcraft.storage.sql import Columns, query

log = structlog.get_logger(__name__)

#: Happenings routed in one transaction.
BATCH: Final = 500
#: What happened longer ago is not told: a notifier that was down for days, or a replay of old deliveries.
MAX_AGE: Final = timedelta(hours=24)

#: Happenings by which people learn of a group. Rules are asked about these.
FIRST: Final[Mapping[str, Decision]] = {
    "opened": Decision.NEW,
    "recurred": Decision.WINDOW_EXPIRED,
    "regressed": Decision.AFTER_RESOLVED,
    "escalated": Decision.JOINED,
}
#: Happenings that whoever was told of the group is told of.
_FOR_THE_TOLD: Final = frozenset({"resolved", "reopened"})

_SNAPSHOT = """g.id, g.workspace_id, g.source, g.project, g.environment, g.fingerprint, g.title, g.severity, g.status,
    g.count, g.first_seen_at, g.last_seen_at, g.link, g.previous_group_id"""
_TAKE = f"""
    SELECT h.id, h.kind, h.at, h.actor, h.at < now() - %(max_age)s, w.slug, g.group_key, e.tags_json, {_SNAPSHOT}
    FROM happening h JOIN workspace w ON w.id = h.workspace_id JOIN alert_group g ON g.id = h.alert_group_id
    LEFT JOIN alert_event e ON e.id = coalesce(h.event_id, (
        SELECT l.id FROM alert_event l WHERE l.alert_group_id = g.id ORDER BY l.received_at DESC, l.id DESC LIMIT 1))
    WHERE h.routed_at IS NULL ORDER BY h.id LIMIT {BATCH} FOR UPDATE OF h SKIP LOCKED"""
_ROUTED = "UPDATE happening SET routed_at = now() WHERE id = ANY(%(ids)s)"

_TOLD = "SELECT alert_group_id, receiver FROM notification WHERE alert_group_id = ANY(%(ids)s) AND NOT is_test"
#: When the problem of a key was last told as new, by receiver. A notification that waits counts as told now.
_LAST_FIRST = """
    SELECT n.receiver, g.group_key, max(coalesce(n.sent_at, n.created_at)), max(n.id) FILTER (WHERE n.mode = 'card')
    FROM {rows} JOIN alert_group g ON g.workspace_id = r.workspace_id AND g.group_key = r.group_key
    JOIN notification n ON n.alert_group_id = g.id
    WHERE NOT n.is_test AND (n.mode = 'card' OR n.reason = ANY(%(first)s)) AND n.state NOT IN ('given_up', 'gone')
    GROUP BY n.receiver, g.group_key"""
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
}
#: A card that is there becomes due again; one that is being sent is due once more after that.
_INSERT = f"""
    INSERT INTO notification AS n ({", ".join(_INSERT_COLUMNS)}) SELECT {", ".join(_INSERT_COLUMNS)} FROM {{rows}}
    ON CONFLICT (receiver, alert_group_id) WHERE mode = 'card' DO UPDATE
    SET revision = n.revision + 1, reason = excluded.reason, rank = excluded.rank,
        due_at = CASE WHEN n.state = 'pending' THEN least(n.due_at, excluded.due_at) ELSE excluded.due_at END,
        happened_at = CASE WHEN n.state = 'pending' THEN n.happened_at ELSE excluded.happened_at END,
        tries = CASE WHEN n.state IN ('sent', 'given_up') THEN 0 ELSE n.tries END,
        state = CASE WHEN n.state = 'sending' THEN n.state ELSE 'pending' END
    WHERE n.state <> 'gone'"""
#: A problem that recurred keeps its card: the new group takes it over.
_TAKE_OVER_COLUMNS: Columns = {"id": "bigint", "alert_group_id": "bigint"}
_TAKE_OVER = """
    UPDATE notification n SET alert_group_id = r.alert_group_id FROM {rows}
    WHERE n.id = r.id AND NOT EXISTS (
        SELECT FROM notification o WHERE o.mode = 'card' AND o.receiver = n.receiver
          AND o.alert_group_id = r.alert_group_id)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something that happened to a group, with the group as it is now."""

    id: int
    kind: str
    at: datetime
    actor: str
    is_old: bool
    workspace: str
    group_key: str
    tags: Sequence[tuple[str, str]]
    group: GroupSnapshot

    @property
    def subject(self) -> Subject:
        """What routes are matched with."""
        group = self.group
        return Subject(
            workspace=self.workspace,
            source=group.source,
            project=group.project,
            environment=group.environment,
            severity=group.severity,
            tags=self.tags,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What receivers were told before: by group, and of the same key."""

    by_group: Mapping[int, set[str]]
    last_first: Mapping[tuple[str, str], tuple[datetime, int | None]]


class FanOut:
    """Routes happenings by one configuration."""

    def __init__(self, config: NotifyConfig, rules: Sequence[Evaluate]) -> None:
        """Create it; ``rules`` are those of the setting RULES."""
        self._config = config
        self._rules = rules

    def run_once(self) -> int:
        """Route up to ``BATCH`` happenings; return how many.

        Raises:
            DatabaseUnavailable: PostgreSQL is unavailable; nothing was routed.
        """
        with database.atomic():
            happenings = [_happening(row) for row in _rows(_TAKE, max_age=MAX_AGE)]
            if not happenings:
                return 0
            told = _told(happenings)
            rows = {self._key(row): row for happening in happenings for row in self._notifications(happening, told)}
            query(_INSERT, _INSERT_COLUMNS, [tuple(row.values()) for row in rows.values()])
            database.execute_sql(_ROUTED, {"ids": [happening.id for happening in happenings]})
        return len(happenings)

    @staticmethod
    def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return what is one row: a card is one for its group, an event one for its happening."""
        about = row["alert_group_id"] if row["mode"] == Mode.CARD else -row["happening_id"]
        return row["receiver"], about

    def _notifications(self, happening: Happening, told: _Told) -> list[dict[str, Any]]:
        """Return the rows to insert for one happening."""
        known = told.by_group[happening.group.id]
        reasons = self._reasons(happening)
        if not reasons:
            return []
        rows = []
        for name, route in self.routed(happening.subject).items() if not happening.is_old else ():
            row = self._row(happening, name, route, reasons, told)
            if row is not None:
                rows.append(row)
                known.add(name)
        routed = {row["receiver"] for row in rows}
        rows += [
            self._update_row(happening, name)
            for name in sorted(known - routed)
            if name in self._config.receivers and self._concerns(name, happening)
        ]
        return rows

    def routed(self, subject: Subject) -> dict[str, Route]:
        """Return the receivers that the routes choose for ``subject``, each with the first route that does."""
        chosen: dict[str, Route] = {}
        for route in select(self._config.routes, subject):
            for name in route.to:
                chosen.setdefault(name, route)
        return chosen

    def _reasons(self, happening: Happening) -> Sequence[str]:
        """Return why people are told: what the rules say, for happenings that rules decide about."""
        decision = FIRST.get(happening.kind)
        if decision is None:
            return [happening.kind]
        group = replace(happening.group, escalated=happening.kind == "escalated")
        try:
            with metrics.timed("signalcraft_stage_seconds", stage="rules"):
                found = [reason for evaluate in self._rules for reason in evaluate(group, decision)]
        except Exception as error:  # noqa: BLE001 - users' code: the built-in decision stands
            metrics.count("signalcraft_errors_total", stage="notify", kind="permanent")
            log.error("rule failed", stage="fan_out", group_id=group.id, **logs.exception_fields(error))  # noqa: TRY400
            return [happening.kind]
        return [happening.kind if reason == "new" else reason for reason in found]

    def _row(
        self, happening: Happening, receiver: str, route: Route, reasons: Sequence[str], told: _Told
    ) -> dict[str, Any] | None:
        """Return the row for a receiver that a route chose, or None if the route does not tell of it."""
        mode = self._config.receivers[receiver].mode
        kind = happening.kind
        if kind == "recurred":
            last = told.last_first.get((receiver, happening.group_key))
            if last is not None and happening.at - last[0] < route.recurrence:
                return self._recurred(happening, receiver, route, last[1])
            kind = "opened"
        if kind not in route.on and reasons[0] in (*FIRST, happening.kind):
            return None
        if mode is Mode.CARD and kind not in FIRST:
            return None  # only a card that is there is edited
        reason = kind if reasons[0] == happening.kind else reasons[0]
        return self._values(happening, receiver, route, reason=reason, due_at=route.due_at(happening.at))

    def _recurred(self, happening: Happening, receiver: str, route: Route, card: int | None) -> dict[str, Any] | None:
        """Hand the card of the earlier group to the new one; receivers without cards are told nothing."""
        if self._config.receivers[receiver].mode is not Mode.CARD or card is None:
            return None
        query(_TAKE_OVER, _TAKE_OVER_COLUMNS, [(card, happening.group.id)])
        return self._values(happening, receiver, route, reason="recurred", due_at=happening.at + route.update_every)

    def _concerns(self, receiver: str, happening: Happening) -> bool:
        """Return whether ``receiver``, which knows the group, is told of something its route does not name."""
        if self._config.receivers[receiver].mode is Mode.CARD:
            return True
        is_silent = happening.actor == "clock"  # the clock resolves silently
        return happening.kind in _FOR_THE_TOLD and not is_silent

    def _update_row(self, happening: Happening, receiver: str) -> dict[str, Any]:
        route = self.routed(happening.subject).get(receiver) or Route(name="", to=(receiver,))
        at_once = self._config.receivers[receiver].mode is Mode.EVENT or happening.actor == "token"
        due_at = happening.at if at_once else happening.at + route.update_every
        return self._values(happening, receiver, route, reason=happening.kind, due_at=due_at)

    def _values(
        self, happening: Happening, receiver: str, route: Route, *, reason: str, due_at: datetime
    ) -> dict[str, Any]:
        """Return values in the order of ``_INSERT_COLUMNS``."""
        group = happening.group
        return {
            "workspace_id": group.workspace_id,
            "alert_group_id": group.id,
            "happening_id": happening.id,
            "receiver": receiver,
            "route": route.name,
            "mode": self._config.receivers[receiver].mode.value,
            "reason": reason,
            "rank": group.severity.rank,
            "happened_at": happening.at,
            "due_at": due_at,
        }


def _rows(statement: str, **parameters: object) -> list[tuple[Any, ...]]:
    return list(database.execute_sql(statement, parameters).fetchall())


def _happening(row: tuple[Any, ...]) -> Happening:
    """Build a happening from a row of ``_TAKE``."""
    identity, kind, at, actor, is_old, workspace, group_key, tags, *snapshot = row
    names = [name for name in GroupSnapshot.__dataclass_fields__ if name != "escalated"]
    values = dict(zip(names, snapshot, strict=True))
    group = GroupSnapshot(
        **values | {"severity": Severity(values["severity"]), "status": GroupStatus(values["status"])},
        escalated=False,
    )
    return Happening(
        id=identity,
        kind=kind,
        at=at,
        actor=actor,
        is_old=is_old,
        workspace=workspace,
        group_key=group_key,
        tags=[(name, value) for name, value in tags or ()],
        group=group,
    )


def _told(happenings: Sequence[Happening]) -> _Told:
    """Read what receivers were told of these groups, and of earlier groups of a key that recurred."""
    by_group: dict[int, set[str]] = defaultdict(set)
    for group_id, receiver in _rows(_TOLD, ids=[happening.group.id for happening in happenings]):
        by_group[group_id].add(receiver)
    keys = {(each.group.workspace_id, each.group_key) for each in happenings if each.kind == "recurred"}
    found = query(_LAST_FIRST, _KEY_COLUMNS, sorted(keys), first=list(FIRST))
    last_first = {(receiver, group_key): (at, card) for receiver, group_key, at, card in found}
    return _Told(by_group=by_group, last_first=last_first)
