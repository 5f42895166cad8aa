"""Deliveries that are kept raw: failed ones and unhandled ones."""

import hashlib
from collections.abc import Sequence
from typing import Final

from peewee import fn

from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import PermanentError
from signalcraft.storage.database import database
from signalcraft.storage.models import FailedDelivery, UnhandledDelivery, columns_of

#: How many deliveries of unknown meaning a workspace keeps.
UNHANDLED_KEPT: Final = 1_000

_FORGET_OLD_UNHANDLED = """
    DELETE FROM unhandled_delivery WHERE workspace_id = %(workspace_id)s AND id <= (
        SELECT id FROM unhandled_delivery WHERE workspace_id = %(workspace_id)s
        ORDER BY id DESC OFFSET %(kept)s LIMIT 1
    )"""


def set_aside(accepted: AcceptedDelivery, error: PermanentError, *, stage: str) -> bool:
    """Keep a delivery that cannot be worked off, with its bytes and the reason; whether it was not kept already."""
    why = {"stage": stage, "code": error.code, "reason": str(error)}
    insert = FailedDelivery.insert(columns_of(accepted) | why).on_conflict_ignore().returning(FailedDelivery.id)
    return bool(list(insert.execute()))


def keep_unhandled(deliveries: Sequence[AcceptedDelivery]) -> None:
    """Keep deliveries raw of which nobody knows what they mean, the newest ``UNHANDLED_KEPT`` of each workspace.

    Each body once: whoever replays one, under whatever unsigned headers, must not push the others out.
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
        database.execute_sql(_FORGET_OLD_UNHANDLED, {"workspace_id": workspace_id, "kept": UNHANDLED_KEPT})
