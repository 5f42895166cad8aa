"""Receive a delivery: verify, limit, identify, enqueue."""

from signalcraft import metrics
from signalcraft.domain.deliveries import AcceptedDelivery, Answer, Delivery, Receipt
from signalcraft.domain.errors import BadSignature
from signalcraft.ingest import durable_enqueue
from signalcraft.ingest.context import IngestContext
from signalcraft.ingest.credential_cache import Access, Directory
from signalcraft.sources import SOURCES, Source


def verify(delivery: Delivery, source: Source, workspace: str, directory: Directory) -> Access:
    """The access of the workspace whose secret explains ``delivery``.

    Raises:
        BadSignature: no secret does, also none that was added a moment ago.
        DatabaseUnavailable: nobody knows the secrets yet.
    """
    access = directory.access(workspace)
    try:
        secret = source.verify(delivery, access.secrets)
    except BadSignature:
        if not directory.refresh():
            raise
        access = directory.access(workspace)
        secret = source.verify(delivery, access.secrets)
    directory.note_use(access, secret)
    metrics.count("signalcraft_secret_matches_total", workspace=access.workspace, secret=secret.name)
    return access


def receive(delivery: Delivery, *, delivery_id: str, workspace: str, context: IngestContext) -> Receipt:
    """Take ``delivery`` in for the workspace whose slug is ``workspace``, once.

    Raises:
        Refusal: it is not taken, and nothing of it is kept.
        DatabaseUnavailable: nobody knows the workspace's secrets yet.
    """
    source = SOURCES[context.source]
    with metrics.timed("signalcraft_stage_seconds", stage="verify"):
        access = verify(delivery, source, workspace, context.directory)
    context.limit(access.workspace)
    with metrics.timed("signalcraft_stage_seconds", stage="identify"):
        identity = source.identify(delivery)
    receipt = Receipt(answer=Answer.IGNORED, delivery_id=delivery_id, identity=identity, reason=identity.ignored)
    if identity.ignored and not identity.is_unknown:
        return receipt
    accepted = AcceptedDelivery(
        delivery_id=delivery_id,
        delivery_key=identity.delivery_key,
        workspace_id=access.workspace_id,
        workspace=access.workspace,
        source=context.source,
        resource=identity.resource,
        delivery=delivery,
    )
    with metrics.timed("signalcraft_stage_seconds", stage="queue"):
        taken = durable_enqueue.keep(accepted, context)
    if identity.ignored:
        return receipt
    answer = Answer.ACCEPTED if taken.fresh else Answer.DUPLICATE
    return Receipt(answer=answer, delivery_id=taken.delivery_id, identity=identity)
