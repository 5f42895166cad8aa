"""The tables of raw deliveries as Peewee models: inbox, dead letters, unhandled ones; and a delivery as their row."""

from collections.abc import Mapping
from typing import Any

from peewee import SQL, BigIntegerField, BlobField, ForeignKeyField, SmallIntegerField, TextField
from playhouse.postgres_ext import BinaryJSONField, DateTimeTZField

from signalcraft.domain.deliveries import AcceptedDelivery, Delivery
from signalcraft.storage.models import Table, Workspace


class _RawDelivery(Table):
    """A delivery as it was received."""

    delivery_id = TextField()
    delivery_key = TextField()
    source = TextField()
    resource = TextField()
    headers_json = BinaryJSONField(index=False)
    body = BlobField()
    received_at = DateTimeTZField()


class Inbox(_RawDelivery):
    """Acknowledged deliveries that could not be enqueued in Redis; a worker processes them from this table.

    ``tries`` counts the workers that claimed the delivery and died, plus one while it is claimed. ``claimed_at`` is
    when the last one did: it has the row's lock only a moment later.
    """

    workspace = ForeignKeyField(Workspace, index=False)
    tries = SmallIntegerField(constraints=[SQL("DEFAULT 0")])
    claimed_at = DateTimeTZField(null=True)

    class Meta:
        constraints = [SQL("CONSTRAINT inbox_delivery_key_key UNIQUE (workspace_id, source, delivery_key)")]


class FailedDelivery(_RawDelivery):
    """Dead-lettered deliveries, with their bytes, the stage that failed, and the reason.

    No foreign key: the dead-letter table also accepts deliveries whose workspace was deleted.
    """

    workspace_id = BigIntegerField()
    failed_at = DateTimeTZField(constraints=[SQL("DEFAULT now()")])
    stage = TextField()
    code = TextField()
    reason = TextField()
    replayed_at = DateTimeTZField(null=True)

    class Meta:
        constraints = [SQL("CONSTRAINT failed_delivery_delivery_id_key UNIQUE (delivery_id)")]
        indexes = [
            SQL("CREATE INDEX failed_delivery_listing ON failed_delivery (workspace_id, failed_at DESC, id DESC)"),
        ]


class UnhandledDelivery(_RawDelivery):
    """Verified deliveries of an unknown resource, the newest only: senders add resources now and then."""

    workspace = ForeignKeyField(Workspace, index=False)

    class Meta:
        constraints = [SQL("CONSTRAINT unhandled_delivery_delivery_id_key UNIQUE (delivery_id)")]
        indexes = [SQL("CREATE INDEX unhandled_delivery_listing ON unhandled_delivery (workspace_id, id DESC)")]


#: As ``models.TABLES``.
TABLES = (Inbox, FailedDelivery, UnhandledDelivery)


def columns_of(accepted: AcceptedDelivery) -> dict[str, Any]:
    """Return a delivery as columns of those tables."""
    return {
        "workspace_id": accepted.workspace_id,
        "delivery_id": accepted.delivery_id,
        "delivery_key": accepted.delivery_key,
        "source": accepted.source,
        "resource": accepted.resource,
        "headers_json": dict(accepted.delivery.headers),
        "body": accepted.delivery.body,
        "received_at": accepted.delivery.received_at,
    }


def delivery_from_row(row: Mapping[str, Any]) -> AcceptedDelivery:
    """Return the delivery of such columns and the workspace's slug.

    This is the inverse of ``columns_of``.
    """
    return AcceptedDelivery(
        workspace_id=row["workspace_id"],
        workspace=row["workspace"],
        delivery_id=row["delivery_id"],
        delivery_key=row["delivery_key"],
        source=row["source"],
        resource=row["resource"],
        delivery=Delivery(headers=row["headers_json"], body=bytes(row["body"]), received_at=row["received_at"]),
    )
