"""What the page of a group shows, read with a few queries that do not grow with the group."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from signalcraft import sources
from signalcraft.domain import explanations
from signalcraft.groups.reading import activity, event_queries, occurrences, queries
from signalcraft.groups.reading.activity import Activity
from signalcraft.groups.reading.occurrences import Seen
from signalcraft.groups.reading.pages import Position, Row
from signalcraft.notify import queries as notify_queries
from signalcraft.notify.queries import NotificationFilter
from signalcraft.ui import timeline
from signalcraft.ui.timeline import Entry

#: Rows of the timeline, of each kind.
_MAX_ROWS: Final = 40
_MAX_OCCURRENCES: Final = 10
#: A page has at most 200 kB, and escaping makes up to five characters of one.
MAX_RAW_CHARACTERS: Final = 15_000
MAX_EVENT_RAW_CHARACTERS: Final = 24_000
MAX_TAGS: Final = 40
MAX_EVENT_TAGS: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPage:
    """A group with all that its page shows; ``event`` is its latest alert, None once retention deleted it."""

    group: Row
    hours: Activity
    days: Activity
    entries: Sequence[Entry]
    changes: Sequence[Row]
    event: Row | None
    explanation: Sequence[str]
    seen: Seen
    earlier: Sequence[Row]
    newest: Row
    shows_all: bool
    tag: str

    @property
    def latest_change(self) -> int:
        """The id of the latest change, which a form sends along."""
        return self.changes[0]["id"] if self.changes else 0

    def changes_since(self, change_id: int) -> Sequence[Entry]:
        """Return what was changed after ``change_id``, in words."""
        return list(timeline.changes_of(row for row in self.changes if row["id"] > change_id))


def read(workspace_id: int, group_id: int, *, window: timedelta, now: datetime) -> GroupPage | None:
    """Return the page of a group, None if the workspace has none. Call it inside ``database.session()``."""
    group = queries.group(workspace_id, group_id, now=now)
    if group is None:
        return None
    wanted = NotificationFilter(workspace_id=workspace_id, group_id=group_id)
    told = notify_queries.notifications(wanted, limit=_MAX_ROWS, after=None)
    changes = queries.history(workspace_id, group_id, limit=_MAX_ROWS, after=None)
    events = event_queries.events_of_group(workspace_id, group_id, limit=_MAX_ROWS, after=None)
    event = event_queries.event(workspace_id, events.rows[0]["id"]) if events.rows else None
    here = Position(value=group["first_seen_at"], id=group_id)
    earlier = occurrences.occurrences(workspace_id, group_id, limit=_MAX_OCCURRENCES, after=here, now=now)
    newest = next(iter(occurrences.occurrences(workspace_id, group_id, limit=1, after=None, now=now).rows), group)
    return GroupPage(
        group=group,
        hours=activity.last_hours(workspace_id, [group_id], now=now)[group_id],
        days=activity.last_days(workspace_id, group_id, now=now),
        entries=timeline.of(group, events.rows, changes.rows, told.rows),
        changes=changes.rows,
        event=event,
        explanation=explanations.explain(event, group, window, sources.fingerprints(event["source"])) if event else [],
        seen=occurrences.seen(workspace_id, group_id, now=now),
        earlier=earlier.rows,
        newest=newest,
        shows_all=not (told.end or changes.end or events.end),
        tag=_tag(group, told.rows, [newest, *earlier.rows]),
    )


def raw_body(event: Row, limit: int) -> tuple[str, int]:
    """Return the beginning of an event's body as text, and how many characters are left out."""
    text = bytes(event["payload_json"] or b"").decode("utf-8", "replace")
    return text[:limit], max(0, len(text) - limit)


def _tag(group: Row, told: Sequence[Row], others: Sequence[Row]) -> str:
    """Return what changes when the page does, apart from how long ago things were."""
    sent = [(row["id"], row["state"], row["tries"], row["sent_at"]) for row in told]
    chain = [(row["id"], row["version"], row["count"], row["status"]) for row in others]
    return hashlib.sha256(repr((sorted(group.items()), sent, chain)).encode()).hexdigest()[:24]
