"""The page of the system itself: what arrives, what waits, what failed, who cannot be told."""

import platform
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

import signalcraft
from signalcraft.domain.errors import RecoverableError
from signalcraft.groups import hourly_counts
from signalcraft.groups.hourly_counts import Period
from signalcraft.groups.reading import activity
from signalcraft.groups.reading.activity import Activity
from signalcraft.notify import queries as notify_queries
from signalcraft.queues import backlog, dead_letters, inbox, jobs, redis_clients
from signalcraft.storage import database_stats
from signalcraft.storage.database import session
from signalcraft.ui import auth, context

T = TypeVar("T")

_MAX_DEAD_LETTERS: Final = 20
_QUEUES: Final = (jobs.ALERTS, jobs.NOTIFICATIONS)
_HOUR: Final = timedelta(hours=1)

system = Blueprint("system", __name__)


@system.get("/system")
def show_system() -> ResponseReturnValue:
    """Show how the system is; what cannot be read is left out, so that it helps in an outage too.

    What is of all workspaces together is shown to those of ``DEFAULT_WORKSPACE`` alone.
    """
    here, now, caller = context.current(), datetime.now(UTC), auth.caller()
    workspace_id = caller.workspace_id
    shows_all = caller.workspace == here.settings.default_workspace
    newest = partial(dead_letters.newest, limit=_MAX_DEAD_LETTERS, workspace_id=workspace_id)
    return render_template(
        "system.html",
        health=here.check_health(),
        intake=_from_database(partial(_intake, workspace_id, now)),
        shows_all=shows_all,
        queues={name: _unless_away(partial(backlog.backlog, here.redis, name)) for name in _QUEUES if shows_all},
        stored=_from_database(partial(_stored, None if shows_all else workspace_id)),
        dead=_from_database(newest),
        receivers=_from_database(notify_queries.receivers) if shows_all else None,
        versions={
            "SignalCraft": signalcraft.__version__,
            "Python": platform.python_version(),
            "PostgreSQL": _from_database(database_stats.server_version),
            "Redis": _unless_away(partial(redis_clients.server_version, here.redis)),
        },
    )


def _intake(workspace_id: int, now: datetime) -> Activity:
    """Return the workspace's alerts of the last 24 hours by hour, without duplicates and repeats."""
    until = now.replace(minute=0, second=0, microsecond=0) + _HOUR
    since = until - activity.HOURS * _HOUR
    alerts = dict(hourly_counts.by_hour(workspace_id, Period(since=since, until=until)))
    counts = [alerts.get(since + hour * _HOUR, 0) for hour in range(activity.HOURS)]
    return Activity(since=since, step=_HOUR, counts=counts)


def _stored(workspace_id: int | None) -> dict[str, object]:
    return {
        "inbox": inbox.depth(workspace_id),
        "inbox_since": inbox.oldest_received_at(workspace_id),
        "dead": dead_letters.depth(workspace_id),
        "waiting": notify_queries.waiting(workspace_id),
        "given_up": notify_queries.given_up(workspace_id),
    }


def _from_database(read: Callable[[], T]) -> T | None:
    """Return what ``read`` finds, None if PostgreSQL is unavailable."""

    def read_in_session() -> T:
        with session():
            return read()

    return _unless_away(read_in_session)


def _unless_away(read: Callable[[], T]) -> T | None:
    with suppress(RecoverableError):
        return read()
    return None
