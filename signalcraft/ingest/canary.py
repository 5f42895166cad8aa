"""Send canaries: synthetic deliveries through the real path, signed, posted, queued, processed, and never listed.

It is an alert of the reserved project ``signalcraft-canary``, named in the signed body: no client without a secret
can make one. The worker stores and removes it in one transaction, so PostgreSQL does all of its work and no list,
count, metric of alerts or notification ever shows it. A key in Redis proves that it was stored.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import structlog
from redis import Redis
from redis.exceptions import RedisError

from signalcraft import http_client, metrics
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import SignalCraftError
from signalcraft.ingest.request import new_delivery_id
from signalcraft.queues import enqueue, leases
from signalcraft.queues.canary_proof import CanaryLost, await_proof
from signalcraft.resilience import every
from signalcraft.settings import Settings
from signalcraft.sources import SOURCES, Source
from signalcraft.storage.database import session
from signalcraft.storage.models import Workspace

log = structlog.get_logger(__name__)
_LEADER_KEY: Final = "signalcraft:canary-turn"
_MAX_INTERVAL_SECONDS: Final = 5.0


def post(url: str, source: Source, secret: str) -> http_client.Response:
    """Post a canary to ``url``, as the sender of ``source`` would.

    Raises:
        ServerUnreachable: no server answers.
    """
    sample = source.build_canary(secret)
    return http_client.post(sample.url(url), sample.body, sample.headers)


def enqueue_canary(settings: Settings, redis: Redis, workspace: str, source: Source) -> str:
    """Enqueue a canary of ``source`` for ``workspace``.

    It is enqueued as the web process does it. Returns its delivery id.

    Raises:
        CanaryLost: there is no such workspace.
        RecoverableError: PostgreSQL or Redis is unavailable.
    """
    delivery = source.build_canary("never verified").as_delivery(datetime.now(UTC))
    with session():
        found: int | None = Workspace.select(Workspace.id).where(Workspace.slug == workspace).scalar()
    if found is None:
        raise CanaryLost(f"There is no workspace {workspace}.")
    identity = source.identify(delivery, settings.vocabulary)
    accepted = AcceptedDelivery(
        delivery_id=new_delivery_id(),
        delivery_key=identity.delivery_key,
        workspace_id=found,
        workspace=workspace,
        source=source.NAME,
        resource=identity.resource,
        delivery=delivery,
    )
    return enqueue.enqueue_once(redis, accepted, ttl_seconds=settings.delivery_key_ttl).delivery_id


def start(settings: Settings, redis: Redis) -> Callable[[], None]:
    """Start a thread that sends a canary every CANARY_SECONDS.

    It goes to this machine's web process. Returns what stops the thread. Of many processes one sends: the leader that
    Redis names.
    """
    if settings.canary_seconds and settings.environment_secrets():
        interval = min(_MAX_INTERVAL_SECONDS, settings.canary_seconds)
        return every(interval, lambda: send_if_leader(settings, redis), name="canary")
    if settings.canary_seconds:
        log.warning("canary disabled, the environment has no webhook secret", stage="canary")
    return lambda: None


def send_if_leader(settings: Settings, redis: Redis) -> None:
    """Send one canary and time it.

    Nothing is sent if another process did so within CANARY_SECONDS.
    """
    try:
        if not leases.once_per(redis, _LEADER_KEY, seconds=settings.canary_seconds):
            return
    except RedisError:
        return  # without Redis there is no proof; /readyz says why
    name, secret = settings.environment_secrets()[0]
    url = f"http://127.0.0.1:{settings.port}/webhooks/{name}/{settings.default_workspace}"
    began = time.monotonic()
    try:
        response = post(url, SOURCES[name], secret.value.decode())
        if response.status != HTTPStatus.ACCEPTED:
            raise CanaryLost(f"The response was {response.status}.")
        await_proof(redis, str(response.body.get("delivery_id", "")))
    except SignalCraftError as error:
        metrics.count("signalcraft_canaries_total", outcome="lost")
        log.warning("canary lost", stage="canary", reason=str(error))
    else:
        metrics.count("signalcraft_canaries_total", outcome="came_through")
        metrics.observe("signalcraft_canary_seconds", time.monotonic() - began)
