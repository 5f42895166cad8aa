"""Receive a delivery: verify, limit, identify, enqueue."""

from signalcraft import metrics
from signalcraft.domain.deliveries import AcceptedDelivery, Delivery, DeliveryStatus, ReceiveResult
from signalcraft.domain.errors import BadSignature
from signalcraft.ingest import durable_enqueue
from signalcraft.ingest.context import IngestContext
from signalcraft.ingest.credential_cache import CredentialCache, WorkspaceSecrets
from signalcraft.sources import SOURCES, Source


def verify(delivery: Delivery, source: Source, workspace: str, credentials: CredentialCache) -> WorkspaceSecrets:
    """The known of the workspace whose secret explains ``delivery``.

    Raises:
        BadSignature: no secret does, also none that was added a moment ago.
        DatabaseUnavailable: nobody knows the secrets yet.
    """
    known = credentials.secrets_of(workspace)
    try:
        secret = source.verify(delivery, known.secrets)
    except BadSignature:
        if not credentials.refresh():
            raise
        known = credentials.secrets_of(workspace)
        secret = source.verify(delivery, known.secrets)
    credentials.record_use(known, secret)
    metrics.count("signalcraft_secret_matches_total", workspace=known.workspace, secret=secret.name)
    return known


def receive(delivery: Delivery, *, delivery_id: str, workspace: str, context: IngestContext) -> ReceiveResult:
    """Take ``delivery`` in for the workspace whose slug is ``workspace``, once.

    Raises:
        Refusal: it is not taken, and nothing of it is kept.
        DatabaseUnavailable: nobody knows the workspace's secrets yet.
    """
    source = SOURCES[context.source]
    with metrics.timed("signalcraft_stage_seconds", stage="verify"):
        known = verify(delivery, source, workspace, context.credentials)
    context.limit(known.workspace)
    with metrics.timed("signalcraft_stage_seconds", stage="identify"):
        identity = source.identify(delivery)
    result = ReceiveResult(
        status=DeliveryStatus.IGNORED, delivery_id=delivery_id, identity=identity, reason=identity.ignored
    )
    if identity.ignored and not identity.is_unknown:
        return result
    accepted = AcceptedDelivery(
        delivery_id=delivery_id,
        delivery_key=identity.delivery_key,
        workspace_id=known.workspace_id,
        workspace=known.workspace,
        source=context.source,
        resource=identity.resource,
        delivery=delivery,
    )
    with metrics.timed("signalcraft_stage_seconds", stage="queue"):
        taken = durable_enqueue.enqueue_durably(accepted, context)
    if identity.ignored:
        return result
    status = DeliveryStatus.DUPLICATE if taken.is_duplicate else DeliveryStatus.ACCEPTED
    return ReceiveResult(status=status, delivery_id=taken.delivery_id, identity=identity)
