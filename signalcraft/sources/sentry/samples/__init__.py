"""Signed sample deliveries in Sentry's own format, for ``send``, the tests and the benchmarks.

Every resource and action of :data:`NAMES`, complete and encoded like Sentry's: compact JSON, ASCII
only, keys in the order ``action, installation, data, actor``, the signature over exactly these bytes.
The values are made up.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from signalcraft.sources.protocol import Sample
from signalcraft.sources.sentry.samples import events, issues, others
from signalcraft.sources.sentry.samples.params import Params
from signalcraft.sources.sentry.signature import HEADERS, SECRET_KINDS, Family, sign

Data = Callable[[Params, str], dict[str, Any]]

#: ``data`` of the integration's deliveries, by resource, and the actions that Sentry sends.
INTEGRATION: Final[Mapping[str, tuple[Data, tuple[str, ...]]]] = {
    "event_alert": (events.event_alert, ("triggered",)),
    "error": (events.error, ("created",)),
    "issue": (issues.issue, ("created", "assigned", "resolved", "unresolved", "ignored", "archived")),
    "metric_alert": (others.metric_alert, ("critical", "warning", "resolved", "open")),
    "activity_alert": (issues.activity_alert, ("triggered",)),
    "installation": (others.installation, ("created", "deleted")),
    "comment": (others.comment, ("created", "updated", "deleted")),
    "seer": (others.seer, others.SEER_ACTIONS),
    "preprod_artifact": (others.preprod_artifact, ("size_analysis_completed", "build_distribution_completed")),
}

#: Bodies of senders without ``action`` and ``data``.
FLAT: Final[Mapping[str, tuple[Callable[[Params], dict[str, Any]], Family]]] = {
    "legacy.modern": (events.legacy, Family.LEGACY),
    "legacy.ancient": (events.legacy_ancient, Family.LEGACY),
    "servicehook.triggered": (events.service_hook, Family.SERVICE_HOOK),
}

#: All names that :func:`build` accepts.
NAMES: tuple[str, ...] = (
    *(f"{resource}.{action}" for resource, (_, actions) in INTEGRATION.items() for action in actions),
    *FLAT,
)


def build(name: str, *, secret: str, **params: Any) -> Sample:  # noqa: ANN401 - the fields of Params, checked there
    """Build the sample ``name``, signed with ``secret``.

    A sender that cannot sign has ``secret`` as its token. ``params`` are the fields of :class:`Params`. Event id,
    time and idempotency key are new each time unless given.

    Raises:
        ValueError: no sample has that name.
        TypeError: a parameter is unknown.
    """
    if name not in NAMES:
        raise ValueError(f"no sample is called {name!r}; there are {', '.join(NAMES)}")
    given = {"event_id": uuid.uuid4().hex, "occurred_at": datetime.now(UTC), "idempotency_key": uuid.uuid4().hex}
    values = Params(**{**given, **params})
    if name in FLAT:
        return _flat(name, values, secret)
    resource, _, action = name.partition(".")
    data_of, _ = INTEGRATION[resource]
    body = {
        "action": action,
        "installation": {"uuid": values.installation},
        "data": data_of(values, action),
        "actor": {"type": "application", "id": "sentry", "name": "Sentry"},
    }
    encoded = encode(_padded(body, values.size))
    headers = {"Sentry-Hook-Resource": resource, **_stamped("Sentry-Hook", encoded, secret)}
    if values.idempotency_key:
        headers["Idempotency-Key"] = values.idempotency_key
    return Sample(
        resource=resource,
        action=action,
        headers=_request_headers() | headers,
        body=encoded,
        reads=HEADERS,
        kind=SECRET_KINDS[Family.INTEGRATION],
    )


def _flat(name: str, values: Params, secret: str) -> Sample:
    body_of, family = FLAT[name]
    encoded = encode(_padded(body_of(values), values.size))
    resource = name.partition(".")[0]
    headers = _request_headers()
    if family is Family.SERVICE_HOOK:
        headers |= {"X-ServiceHook-GUID": values.hook_guid} | _stamped("X-ServiceHook", encoded, secret)
    return Sample(
        resource=resource,
        action="triggered",
        headers=headers,
        body=encoded,
        reads=HEADERS,
        kind=SECRET_KINDS[family],
        url_token=secret if family is Family.LEGACY else "",
    )


def _request_headers() -> dict[str, str]:
    # Sentry's HTTP client adds these to every request.
    return {
        "Content-Type": "application/json",
        "Request-ID": uuid.uuid4().hex,
        "User-Agent": "sentry/26.5.0 (https://sentry.io)",
        "Accept": "*/*",
        "Accept-Encoding": "gzip, deflate",
    }


def _stamped(prefix: str, body: bytes, secret: str) -> dict[str, str]:
    now = int(datetime.now(UTC).timestamp())
    return {f"{prefix}-Timestamp": str(now), f"{prefix}-Signature": sign(body, secret.encode())}


def encode(body: Mapping[str, Any]) -> bytes:
    """Encode ``body`` like Sentry's ``sentry.utils.json.dumps``."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=True).encode()


def _padded(body: dict[str, Any], size: int) -> dict[str, Any]:
    # A body with a stack grows by frames first: real large events are large because of their stacks.
    missing = size - len(encode(body))
    frames = events.frames_in(body)
    if frames and missing > 0:
        frames[:0] = events.frames_of(missing)
        missing = size - len(encode(body))
    # Sentry itself adds a top-level "text" for some receivers.
    overhead = len(',"text":""')
    return body | {"text": "." * (missing - overhead)} if missing >= overhead else body
