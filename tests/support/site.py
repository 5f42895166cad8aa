"""A site to visit, and its groups: one of each state, a problem that came back, and one whose every text is hostile."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson
from playwright.sync_api import Browser

from signalcraft.domain.alerts import Change, Severity, StatusChange
from signalcraft.domain.errors import UnexpectedShape
from signalcraft.groups import saved_views, source_updates
from signalcraft.groups.bursts import PendingEvent
from signalcraft.queues import dead_letters
from signalcraft.storage import tenants
from signalcraft.storage.compression import compress
from signalcraft.storage.database import session
from signalcraft.storage.models import AlertEvent, AlertGroup
from tests.support import browsing
from tests.support.browsing import Visitor
from tests.support.builders import NOON, accepted, change_group, pending_event, record
from tests.support.web_client import add_workspace

WORKSPACE = "default"
#: Runs, breaks out, redirects or hides if a page takes it for anything but text.
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "</title></textarea></style><svg onload=alert(1)>",
    "\u202eesrever\u2066 \u200bx",
    "&lt;b&gt; &amp; &#x3c;i>",
    "javascript:alert(1)",
    "//evil.example/x",
)
HOSTILE_TEXT = " ".join(HOSTILE)


@dataclass
class Site:
    """The running server; ``visit`` opens a browser profile on it, ``ids`` are the groups by name."""

    url: str
    ids: dict[str, int]
    browser: Browser
    session_cookies: list[Any] = field(default_factory=list)
    visitors: list[Visitor] = field(default_factory=list)

    def visit(self, *, signed_in: bool = True, **options: Any) -> Visitor:  # noqa: ANN401 - as ``browsing.visit`` takes them
        visitor = browsing.visit(self.browser, self.url, **options)
        self.visitors.append(visitor)
        if signed_in:
            visitor.context.add_cookies(self.session_cookies)
        return visitor

    def visit_as(self, name: str, *, can_write: bool = True, **options: Any) -> Visitor:  # noqa: ANN401 - likewise
        """Sign in with a new token."""
        with session():
            token = tenants.create_token(WORKSPACE, can_write=can_write, name=name)
        visitor = self.visit(signed_in=False, **options)
        visitor.sign_in(token)
        return visitor


def alert(name: str, now: datetime, *, minutes_ago: float = 1, title: str = "", **fields: object) -> PendingEvent:
    """An alert of the group ``name``, received so long before ``now``."""
    minute = (now - NOON - timedelta(minutes=minutes_ago)) / timedelta(minutes=1)
    pending = pending_event(minute=minute, issue=name, title=title or f"ValueError: {name} failed", **fields)  # type: ignore[arg-type]  # fields of the alert
    return replace(pending, payload=compress(b'{"action": "triggered", "data": {"event": {"level": "error"}}}'))


def fill(now: datetime) -> dict[str, int]:
    """Store the groups; return their ids by name."""
    add_workspace(WORKSPACE)
    add_workspace("other")
    record(*(alert("other", now, workspace_id=2) for _ in range(2)))
    for days_ago in (20, 9, 3, 0):
        record(alert("came-back", now, minutes_ago=5 + days_ago * 1_440, severity=Severity.CRITICAL))
    record(*(alert("busy", now, minutes_ago=minutes) for minutes in range(0, 600, 25)))
    for number, severity in enumerate(Severity):
        record(alert(f"severity-{severity.value}", now, minutes_ago=10 + number, severity=severity))
    record(*(alert(name, now, minutes_ago=30) for name in ("acked", "snoozed", "resolved", "assigned")))
    record(*(alert(f"filler-{number}", now, minutes_ago=100 + number) for number in range(8)))
    record(_hostile(now))
    ids = _ids()
    ids["busy-event"] = _event_of(ids["busy"])
    change_group(ids["acked"], status="ack")
    change_group(ids["snoozed"], status="snoozed", snoozed_until=now + timedelta(hours=5))
    change_group(ids["assigned"], assignee_user_id="ann", runbook_url="https://wiki.example.com/runbooks/shop")
    change_group(ids["hostile"], assignee_user_id=HOSTILE_TEXT[:200])
    with session():
        resolved = StatusChange(source="sentry", change=Change.RESOLVED, fingerprint="issue:resolved", received_at=now)
        source_updates.apply_status_changes([(1, resolved)])
        saved_views.save(1, "Severe in production", "?environment=prod&q=severity&severity_min=high")
        saved_views.save(1, HOSTILE_TEXT[: saved_views.MAX_NAME_LENGTH], "?q=evil.example")
        dead_letters.add_all([(accepted(), UnexpectedShape(HOSTILE_TEXT))], stage="normalize")
    return ids


def _ids() -> dict[str, int]:
    """Return the ids of the groups by name; of a problem that came back, that of the newest."""
    with session():
        rows = AlertGroup.select(AlertGroup.issue_id, AlertGroup.id).order_by(AlertGroup.first_seen_at).tuples()
        return dict(rows)


def _hostile(now: datetime) -> PendingEvent:
    pending = alert(
        "hostile",
        now,
        title=HOSTILE_TEXT,
        event_id=HOSTILE_TEXT,
        project=HOSTILE_TEXT[:100],
        environment=HOSTILE_TEXT[:100],
        link="javascript:alert(1)",
        rule=HOSTILE_TEXT,
    )
    tags = [(text, text) for text in HOSTILE]
    return replace(
        pending,
        alert=replace(pending.alert, description=HOSTILE_TEXT, tags=tags),
        payload=compress(orjson.dumps({text: text for text in HOSTILE})),
    )


def _event_of(group_id: int) -> int:
    with session():
        return int(AlertEvent.select(AlertEvent.id).where(AlertEvent.alert_group == group_id).limit(1).scalar())


def fill_more(*names: str) -> list[int]:
    """Store a new group for each name, whatever groups there are; return their ids."""
    now = datetime.now(UTC)
    unique = [f"{name}-{uuid4().hex[:8]}" for name in names]
    record(*(alert(name, now) for name in unique))
    ids = _ids()
    return [ids[name] for name in unique]


def one_more(group_id: int) -> PendingEvent:
    """Return a new alert of a group."""
    with session():
        name: str = AlertGroup.get_by_id(group_id).issue_id
    return alert(name, datetime.now(UTC), minutes_ago=0)
