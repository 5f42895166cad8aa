"""Receive a delivery: verify, limit, identify, enqueue."""

from dataclasses import replace

from signalcraft import metrics
from signalcraft.domain.deliveries import AcceptedDelivery, Delivery, DeliveryStatus, Identity, ReceiveResult
from signalcraft.domain.errors import BadSignature, TooManyRequests, Unavailable
from signalcraft.ingest import durable_enqueue
from signalcraft.ingest.context import IngestContext
from signalcraft.ingest.credential_cache import CredentialCache, WorkspaceSecrets
from signalcraft.sources import Source, authorization


def verify(delivery: Delivery, source: Source, workspace: str, credentials: CredentialCache) -> WorkspaceSecrets:
    """Return the secrets of ``workspace``, one of which verifies ``delivery``.

    Raises:
        BadSignature: no secret verifies it, also none that was added before it arrived.
        DatabaseUnavailable: the secrets are not cached yet.
    """
    access = credentials.secrets_of(workspace, source.NAME)
    try:
        secret = source.verify(delivery, access.secrets)
    except BadSignature:
        credentials.refresh()
        newer = credentials.secrets_of(workspace, source.NAME)
        if newer == access:
            raise
        access = newer
        secret = source.verify(delivery, access.secrets)
    credentials.record_use(access, secret)
    metrics.count("signalcraft_secret_matches_total", workspace=access.workspace, secret=secret.name, kind=secret.kind)
    return access


def receive(
    delivery: Delivery, source: Source, *, delivery_id: str, workspace: str, context: IngestContext
) -> ReceiveResult:
    """Verify ``delivery`` and enqueue it once.

    ``workspace`` is the slug of the workspace that it is verified for.

    Raises:
        Refusal: the delivery is refused, and nothing of it is stored.
        DatabaseUnavailable: the secrets of the workspace are not cached yet.
    """
    with metrics.timed("signalcraft_stage_seconds", stage="verify"):
        access = verify(delivery, source, workspace, context.credentials)
    _limit(source, access.workspace, context)
    with metrics.timed("signalcraft_stage_seconds", stage="identify"):
        identity = source.identify(delivery, context.vocabulary)
    if identity.ignored and not identity.is_kept:
        return _ignored(identity, delivery_id)
    accepted = AcceptedDelivery(
        delivery_id=delivery_id,
        delivery_key=identity.delivery_key,
        workspace_id=access.workspace_id,
        workspace=access.workspace,
        source=source.NAME,
        resource=identity.resource,
        delivery=_without_credentials(delivery),
    )
    with metrics.timed("signalcraft_stage_seconds", stage="queue"):
        enqueued = durable_enqueue.enqueue_durably(accepted, context)
    if identity.ignored:
        return _ignored(identity, delivery_id)
    status = DeliveryStatus.DUPLICATE if enqueued.is_duplicate else DeliveryStatus.ACCEPTED
    return ReceiveResult(status=status, delivery_id=enqueued.delivery_id, identity=identity)


def _ignored(identity: Identity, delivery_id: str) -> ReceiveResult:
    return ReceiveResult(
        status=DeliveryStatus.IGNORED, delivery_id=delivery_id, identity=identity, reason=identity.ignored
    )


def _without_credentials(delivery: Delivery) -> Delivery:
    """Return ``delivery`` without what a sender that does not sign carries: it is never stored."""
    if authorization.HEADER not in delivery.headers:
        return delivery
    kept = {name: value for name, value in delivery.headers.items() if name != authorization.HEADER}
    return replace(delivery, headers=kept)


def _limit(source: Source, workspace: str, context: IngestContext) -> None:
    """Count a verified delivery of ``workspace``.

    Raises:
        TooManyRequests: it is over the limit.
        Unavailable: likewise, from a sender that sends again after a 5xx alone.
    """
    try:
        context.limit(workspace)
    except TooManyRequests as error:
        if not source.TRAITS.retries:
            raise
        raise Unavailable(retry_after=durable_enqueue.RETRY_AFTER_SECONDS) from error
