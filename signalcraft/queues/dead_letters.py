"""Dead letters: raw deliveries that cannot be processed, with the reason; and raw deliveries of unknown meaning.

Call everything but ``add`` inside ``session()``.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import structlog
from peewee import SQL, chunked, fn

from signalcraft import metrics
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import PermanentError
from signalcraft.storage.database import database, session
from signalcraft.storage.delivery_models import FailedDelivery, UnhandledDelivery, columns_of

log = structlog.get_logger(__name__)

#: Dead letters inserted by one statement: a delivery may hold thousands, and each may be as large as a body.
_ROWS: Final = 100
#: Unhandled deliveries kept for each workspace.
MAX_UNHANDLED: Final = 1_000

_DELETE_OLD_UNHANDLED = """
    DELETE FROM unhandled_delivery WHERE workspace_id = %(workspace_id)s AND id <= (
        SELECT id FROM unhandled_delivery WHERE workspace_id = %(workspace_id)s
        ORDER BY id DESC OFFSET %(kept)s LIMIT 1
    )"""


def add(accepted: AcceptedDelivery, error: PermanentError, *, stage: str) -> None:
    """Dead-letter one delivery, in a session of its own.

    Raises:
        RecoverableError: PostgreSQL is unavailable; nothing was stored.
    """
    with session():
        add_all([(accepted, error)], stage=stage)


def add_all(failures: Iterable[tuple[AcceptedDelivery, PermanentError]], *, stage: str) -> None:
    """Dead-letter deliveries, each with its reason.

    Only new ones are logged and counted.
    """
    for some in chunked(failures, _ROWS):
        _add_some(some, stage)


def _add_some(failures: Sequence[tuple[AcceptedDelivery, PermanentError]], stage: str) -> None:
    rows = [
        columns_of(accepted) | {"stage": stage, "code": error.code, "reason": str(error)}
        for accepted, error in failures
    ]
    insert = FailedDelivery.insert_many(rows).on_conflict_ignore().returning(FailedDelivery.delivery_id)
    new = {row.delivery_id for row in insert.execute()}
    for accepted, error in failures:
        if accepted.delivery_id not in new:
            continue
        new.discard(accepted.delivery_id)
        metrics.count("signalcraft_errors_total", stage=stage, kind="permanent")
        log.warning(
            "delivery dead-lettered",
            stage=stage,
            delivery_id=accepted.delivery_id,
            workspace=accepted.workspace,
            source=accepted.source,
            resource=accepted.resource,
            code=error.code,
        )


def add_unhandled(deliveries: Sequence[AcceptedDelivery]) -> None:
    """Store raw deliveries of unknown meaning.

    The newest ``MAX_UNHANDLED`` of each workspace are kept. Each body is stored once: a client that replays a body with
    varying unsigned headers must not evict the others.
    """
    if not deliveries:
        return
    for accepted in deliveries:
        same = (UnhandledDelivery.workspace == accepted.workspace_id) & (
            fn.sha256(UnhandledDelivery.body) == hashlib.sha256(accepted.delivery.body).digest()
        )
        if not UnhandledDelivery.select().where(same).exists():
            UnhandledDelivery.insert(columns_of(accepted)).on_conflict_ignore().execute()
    for workspace_id in sorted({accepted.workspace_id for accepted in deliveries}):
        database.execute_sql(_DELETE_OLD_UNHANDLED, {"workspace_id": workspace_id, "kept": MAX_UNHANDLED})


def newest(*, limit: int, workspace_id: int | None = None) -> list[FailedDelivery]:
    """Return the newest dead letters that were not replayed, of one workspace or of all."""
    return list(_pending().where(*_of(workspace_id)).order_by(FailedDelivery.id.desc()).limit(limit))


def get(failed_id: int) -> FailedDelivery | None:
    """Return one dead letter, replayed or not."""
    return FailedDelivery.get_or_none(FailedDelivery.id == failed_id)


def any_within(seconds: float) -> bool:
    """Return whether an unreplayed delivery was dead-lettered in the last ``seconds``, by PostgreSQL's clock."""
    since = SQL("now() - %s * interval '1 second'", (seconds,))
    return bool(_pending().where(FailedDelivery.failed_at >= since).exists())


def drop(failed_id: int) -> int:
    """Delete one dead letter, replayed or not; return 1, or 0 if there was none."""
    return int(FailedDelivery.delete().where(FailedDelivery.id == failed_id).execute())


def drop_before(moment: datetime, workspace_id: int | None = None) -> int:
    """Delete what was dead-lettered before ``moment``, replayed or not; return how many."""
    old = FailedDelivery.delete().where(FailedDelivery.failed_at < moment, *_of(workspace_id))
    return int(old.execute())


def depth(workspace_id: int | None = None) -> int:
    """Return how many dead letters were not replayed, of one workspace or of all."""
    return int(_pending().where(*_of(workspace_id)).count())


def _of(workspace_id: int | None) -> list[Any]:
    return [] if workspace_id is None else [FailedDelivery.workspace_id == workspace_id]


def _pending() -> Any:  # noqa: ANN401 - Peewee's query
    return FailedDelivery.select().where(FailedDelivery.replayed_at.is_null())
