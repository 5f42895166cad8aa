"""Groups as cards show them, and the workspaces of cards. Call everything inside ``database.session()``."""

from datetime import datetime
from typing import Any, Final

from signalcraft.groups.reading import activity, queries
from signalcraft.groups.reading.pages import Row
from signalcraft.storage.database import database, rows

#: What a card shows besides the group: who changed its status last and why, and whether it is a regression.
_HISTORY: Final = """
    SELECT c.changed_by AS status_by, c.actor AS status_actor, c.changed_at AS status_at, c.to_value AS status_to,
           c.note AS status_note,
           CASE WHEN p.resolved_at <= g.first_seen_at THEN p.resolved_at END AS previous_resolved_at
    FROM alert_group g LEFT JOIN alert_group p ON p.id = g.previous_group_id
    LEFT JOIN LATERAL (
        SELECT * FROM group_change WHERE alert_group_id = g.id AND field = 'status' ORDER BY id DESC LIMIT 1) c ON true
    WHERE g.id = %(group)s"""
#: A message is known by its name in the channel; one whose outcome was not recorded yet, by its group.
_WORKSPACE: Final = """
    SELECT n.workspace_id FROM receiver_state s JOIN notification n ON n.receiver = s.receiver
    WHERE s.external_account = %(account)s AND n.external_channel = %(channel)s AND n.external_id = %(message)s
    UNION ALL
    SELECT n.workspace_id FROM receiver_state s JOIN notification n ON n.receiver = s.receiver
    WHERE s.external_account = %(account)s AND n.alert_group_id = %(group)s AND n.mode = 'card'
      AND coalesce(n.external_channel, s.external_channel) = %(channel)s
    LIMIT 1"""


def group(workspace_id: int, group_id: int, *, now: datetime) -> Row | None:
    """Return a group with the history that its card shows, None if it is not in the workspace.

    ``alerts_by_hour`` are the counts of the last day.
    """
    found = queries.group(workspace_id, group_id, now=now)
    if found is None:
        return None
    hours = activity.last_hours(workspace_id, [group_id], now=now)[group_id]
    return found | next(iter(rows(_HISTORY, {"group": group_id})), {}) | {"alerts_by_hour": hours.counts}


def find_workspace(*, account: str, channel: str, message: str, group_id: int | None) -> tuple[int | None] | None:
    """Return the workspace of a message of a receiver, in a tuple, since a test has none; None if it is no receiver's.

    ``account`` and ``channel`` are where the message is, and ``message`` is its name there.
    """
    names = {"account": account, "channel": channel, "message": message, "group": group_id}
    found: Any = database.execute_sql(_WORKSPACE, names).fetchone()
    return None if found is None else (found[0],)
