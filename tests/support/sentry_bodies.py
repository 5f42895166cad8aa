"""Builders of Sentry's deliveries, complete and damaged, without any service.

``python -m tests.support.sentry_bodies`` writes ``tests/samples/sentry/`` again.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from signalcraft.domain.alerts import NormalizedAlert, StatusChange, Vocabulary
from signalcraft.domain.deliveries import Delivery, Secret
from signalcraft.sources import sentry
from signalcraft.sources.protocol import Sample
from signalcraft.sources.sentry import samples
from signalcraft.sources.sentry.signature import sign
from tests.support import ROOT

SECRET = "test-client-secret"
SECRETS = [Secret(name=kind, kind=kind, value=SECRET.encode()) for kind in ("integration", "servicehook", "legacy")]
RECEIVED_AT = datetime(2026, 3, 1, 12, 0, 3, tzinfo=UTC)
OCCURRED_AT = datetime(2026, 3, 1, 12, 0, 0, 250000, tzinfo=UTC)
EVENT_ID = "3b9f4c1d2e8a47569c0d1f2e3a4b5c6d"
FOLDER = ROOT / "tests" / "samples" / "sentry"
FIXED: dict[str, Any] = {
    "event_id": EVENT_ID,
    "occurred_at": OCCURRED_AT,
    "issue": "6120094511",
    "idempotency_key": "00112233445566778899aabbccddeeff",
}

#: Marks a key to remove.
ABSENT = object()


def sample(name: str = "event_alert.triggered", **params: object) -> Sample:
    return samples.build(name, secret=SECRET, **{**FIXED, **params})


def body_of(name: str, **params: object) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(sample(name, **params).body)
    return body


def deliver(name: str = "event_alert.triggered", **params: object) -> Delivery:
    return sample(name, **params).as_delivery(RECEIVED_AT)


def carrying(body: object, like: str = "event_alert.triggered", **headers: str | None) -> Delivery:
    """A signed delivery of ``body`` with the headers of the sample ``like``; ``None`` removes a header."""
    raw = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
    original = _original(like)
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    kept = {name: value for name, value in {**original.headers, **changed}.items() if value is not None}
    for name in kept:
        if name.endswith("-signature"):
            kept[name] = sign(raw, SECRET.encode())
    return Delivery(headers=kept, body=raw, received_at=RECEIVED_AT, url_token=original.url_token)


@cache  # thousands of bodies need the same headers
def _original(name: str) -> Delivery:
    return deliver(name)


def damaged(name: str, path: str, value: object = ABSENT) -> Delivery:
    """The sample ``name`` with another value at ``path``, correctly signed."""
    return carrying(with_value(body_of(name), path, value), like=name)


def with_value(body: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    *parent, last = path.split(".")
    part = body
    for step in parent:
        part = part[int(step)] if isinstance(part, list) else part[step]
    if value is ABSENT:
        del part[last]
    else:
        part[last] = value
    return body


def with_event(name: str = "event_alert.triggered", **fields: object) -> Delivery:
    """The sample's event with other values; :data:`ABSENT` removes a field."""
    body = body_of(name)
    own = {"event_alert.triggered": "event", "error.created": "error"}.get(name)
    event = body["data"][own] if own else body["event"]
    event.update(fields)
    for key in [key for key, value in event.items() if value is ABSENT]:
        del event[key]
    return carrying(body, like=name)


def outcomes(delivery: Delivery, vocabulary: Vocabulary | None = None) -> Sequence[NormalizedAlert | StatusChange]:
    return sentry.normalize(delivery, vocabulary or Vocabulary()).outcomes


def alert(delivery: Delivery, vocabulary: Vocabulary | None = None) -> NormalizedAlert:
    (outcome,) = outcomes(delivery, vocabulary)
    assert isinstance(outcome, NormalizedAlert)
    return outcome


def change(delivery: Delivery) -> StatusChange:
    (outcome,) = outcomes(delivery)
    assert isinstance(outcome, StatusChange)
    return outcome


def warned(delivery: Delivery) -> list[str]:
    return [warning.field for warning in sentry.normalize(delivery).warnings]


def write() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in samples.NAMES:
        (FOLDER / f"{name}.json").write_bytes(sample(name).body)


if __name__ == "__main__":
    write()
