"""Deliveries as rows of the tables that store them raw: inbox, dead letters, unhandled deliveries."""

from collections.abc import Mapping
from typing import Any

from signalcraft.domain.deliveries import AcceptedDelivery, Delivery


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
