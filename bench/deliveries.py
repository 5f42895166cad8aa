"""Deliveries for the benchmarks: signed event_alerts of 6.5 kB, over a few hot groups and a long tail.

Groups are the numbered ones of ``bench.load``. A tenth of the deliveries is spread evenly over the 20,000
groups after the hot ones, the rest over the 100 hot ones by Zipf's law: the first gets twice what the second gets.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import uuid4

from bench import load
from bench.arena import SECRET
from signalcraft.domain.deliveries import AcceptedDelivery, Delivery
from signalcraft.ingest.request import new_delivery_id
from signalcraft.queues import enqueue as queues_enqueue
from signalcraft.queues import redis_clients
from signalcraft.sources import SOURCES
from signalcraft.sources.protocol import Sample
from signalcraft.sources.sentry import samples
from signalcraft.sources.sentry.signature import sign

SIZE = 6_500
HOT = 100
TAIL = 20_000
TAIL_SHARE = 0.1

_PLACEHOLDER = "0123456789abcdef" * 2
_TTL_SECONDS = 3_600


@dataclass(slots=True)
class Maker:
    """Make deliveries; the same ``seed`` gives the same groups, which are numbered from ``first`` on.

    ``tail`` is the share of deliveries for groups that are not hot.
    """

    seed: int = 1
    size: int = SIZE
    tail: float = TAIL_SHARE
    first: int = 1
    _chance: random.Random = field(init=False)
    _samples: dict[int, Sample] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311 - chance here is no secret

    def groups(self, number: int) -> list[int]:
        """Return the group numbers of ``number`` deliveries."""
        hot = self._chance.choices(range(HOT), [1 / rank for rank in range(1, HOT + 1)], k=number)
        offsets = [
            self._chance.randrange(HOT, HOT + TAIL) if self._chance.random() < self.tail else hot_offset
            for hot_offset in hot
        ]
        return [self.first + offset for offset in offsets]

    def sample(self, group: int) -> Sample:
        """Return a new signed delivery for ``group``."""
        template = self._samples.get(group) or self._build(group)
        body = template.body.replace(_PLACEHOLDER.encode(), uuid4().hex.encode())
        signature = sign(body, SECRET.encode())
        return replace(
            template,
            headers={**template.headers, "Sentry-Hook-Signature": signature, "Idempotency-Key": uuid4().hex},
            body=body,
        )

    def accepted(self, number: int) -> list[AcceptedDelivery]:
        """Return ``number`` deliveries for the first workspace, as the web process enqueues them, received now."""
        return [_accept(self.sample(group)) for group in self.groups(number)]

    def opening(self, number: int) -> list[AcceptedDelivery]:
        """Return a delivery for each of ``number`` groups that no other method uses."""
        first = self.first + HOT + TAIL
        return [_accept(self.sample(group)) for group in range(first, first + number)]

    def _build(self, group: int) -> Sample:
        sample = samples.build(
            "event_alert.triggered",
            secret=SECRET,
            event_id=_PLACEHOLDER,
            project=load.project_of(group),
            environment=load.environment_of(group),
            issue=load.issue_of(group),
            title=f"TimeoutError: request {group} to the gateway failed",
            size=self.size,
        )
        if group < self.first + HOT:
            self._samples[group] = sample
        return sample


def _accept(sample: Sample) -> AcceptedDelivery:
    delivery: Delivery = sample.as_delivery(datetime.now(UTC))
    identity = SOURCES["sentry"].identify(delivery)
    return AcceptedDelivery(
        delivery_id=new_delivery_id(),
        delivery_key=identity.delivery_key,
        workspace_id=1,
        workspace="default",
        source="sentry",
        resource=identity.resource,
        delivery=delivery,
    )


def enqueue(redis_url: str, deliveries: Iterable[AcceptedDelivery]) -> None:
    """Enqueue ``deliveries`` as the web process does, with one script call each."""
    redis = redis_clients.for_web(redis_url)
    for accepted in deliveries:
        queues_enqueue.enqueue_once(redis, accepted, ttl_seconds=_TTL_SECONDS)
    redis.close()


def describe() -> dict[str, object]:
    """Return the parameters for the results file."""
    return {"delivery_bytes": SIZE, "hot_groups": HOT, "tail_groups": TAIL, "tail_share": TAIL_SHARE}


def sizes(deliveries: Sequence[AcceptedDelivery]) -> list[int]:
    """Return the size of each body in bytes."""
    return [len(accepted.delivery.body) for accepted in deliveries]
