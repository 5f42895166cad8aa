"""Sample deliveries of our own making: a backup that fails, and what other senders say in their own bodies."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final
from uuid import uuid4

from signalcraft.domain.deliveries import CANARY_PROJECT
from signalcraft.sources.generic import body as bodies
from signalcraft.sources.generic import signature
from signalcraft.sources.protocol import Sample, Scene

TITLE: Final = "The nightly backup failed"
_JSON: Final = "application/json"


def alert(status: str, *, machine: str = "db1", **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return one alert; one title, machine and day is one time that it fails."""
    now = datetime.now(UTC)
    title = str(fields.get("title", TITLE))
    made = {
        "id": f"{title}/{machine}/{now:%Y-%m-%d}",
        "title": title,
        "status": status,
        "severity": "high",
        "environment": "production",
        "project": "backups",
        "description": f"pg_dump on {machine} ended with status 1.",
        "link": "https://ci.example.org/backups",
        "tags": {"machine": machine},
        "occurred_at": now.isoformat(timespec="seconds"),
    }
    return made | fields


def _event(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    data = alert("firing", **fields)
    del data["id"], data["occurred_at"]
    return {
        "specversion": "1.0",
        "id": uuid4().hex,
        "source": "https://ci.example.org/deploy",
        "type": "org.example.deploy.failed",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": data,
    }


def _healthchecks(*, title: str = TITLE, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"code": str(uuid4()), "name": title, "status": "down", "tags": "backups nightly", **fields}


def _uptimekuma(*, title: str = "shop.example.org", **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    now = datetime.now(UTC)
    return {
        "heartbeat": {"monitorID": 7, "status": 0, "time": f"{now:%Y-%m-%d %H:%M:%S}.000", "msg": "timeout"},
        "monitor": {"id": 7, "name": title, "url": "https://shop.example.org", "type": "http"},
        "msg": f"[{title}] Down: timeout",
        **fields,
    }


def _datadog(*, title: str = "Disk almost full", **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {
        "cycle": uuid4().hex,
        "monitor": "1234",
        "title": title,
        "transition": "Triggered",
        "priority": "P2",
        "text": "90 % of the disk are used.",
        "link": "https://app.example.org/monitors/1234",
        "scope": "host:db1",
        "date": str(int(datetime.now(UTC).timestamp() * 1000)),
        **fields,
    }


#: The body of each sample, and the name of the mapping that reads it.
_BODIES: Final[Mapping[str, tuple[Callable[..., Any], str]]] = {
    "generic.firing": (lambda **fields: alert("firing", **fields), ""),
    "generic.resolved": (lambda **fields: alert("resolved", **fields), ""),
    "generic.list": (lambda **fields: [alert("firing", machine=each, **fields) for each in ("db1", "db2")], ""),
    "generic.signed": (lambda **fields: alert("firing", **fields), ""),
    "generic.in_url": (lambda **fields: alert("firing", **fields), ""),
    "generic.event": (_event, ""),
    "generic.healthchecks": (_healthchecks, "healthchecks"),
    "generic.uptimekuma": (_uptimekuma, "uptimekuma"),
    "generic.datadog": (_datadog, "datadog"),
}
NAMES: Final = tuple(_BODIES)


def build(name: str, *, secret: str, **fields: Any) -> Sample:  # noqa: ANN401 - JSON
    """Build the sample ``name``, with ``secret`` as its kind needs it; ``fields`` are those of its body.

    Raises:
        ValueError: no sample has that name.
    """
    if name not in _BODIES:
        raise ValueError(f"no sample is called {name!r}; there are {', '.join(NAMES)}")
    make, mapping = _BODIES[name]
    kind = {"generic.signed": signature.SIGNED, "generic.in_url": signature.URL}.get(name, signature.BEARER)
    headers = {"Content-Type": "application/cloudevents+json" if name == "generic.event" else _JSON}
    if mapping:
        headers["X-SignalCraft-Mapping"] = mapping
    return sample(make(**fields), secret=secret, kind=kind, headers=headers, action=name.partition(".")[2])


def build_canary(secret: str) -> Sample:
    """Build an alert of the canary's project."""
    made = alert("firing", title="Canary: is the way through open?", id=uuid4().hex, project=CANARY_PROJECT)
    return sample(made, secret=secret, action="canary")


def sample(
    content: Mapping[str, Any] | Sequence[Any],
    *,
    secret: str,
    kind: str = signature.BEARER,
    headers: Mapping[str, str] = MappingProxyType({"Content-Type": _JSON}),
    action: str = "firing",
) -> Sample:
    """Return a delivery of ``content``."""
    body = json.dumps(content, separators=(",", ":")).encode()
    return Sample(
        resource=bodies.MAPPED if "X-SignalCraft-Mapping" in headers else bodies.ALERT,
        action=action,
        headers={**headers, **_credentials(kind, body, secret)},
        body=body,
        reads=signature.HEADERS | bodies.HEADERS,
        kind=kind,
        url_token=secret if kind == signature.URL else "",
    )


def _credentials(kind: str, body: bytes, secret: str) -> Mapping[str, str]:
    if kind == signature.BEARER:
        return {"Authorization": f"Bearer {secret}"}
    if kind == signature.URL:
        return {}
    message_id, timestamp = f"msg_{uuid4().hex}", str(int(datetime.now(UTC).timestamp()))
    made = signature.sign(body, secret.encode(), message_id=message_id, timestamp=timestamp)
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{made}"}


def scenes() -> list[Scene]:
    """Return the scenes of the demo; ids are new each time."""
    backup = {"id": uuid4().hex, "title": TITLE}
    kuma = {"title": "shop.example.org is down", "project": "shop"}
    return [
        Scene(shows="a script", sample="generic.firing", alerts=1, params=backup),
        Scene(shows="the same, signed", sample="generic.signed", params=backup),
        Scene(shows="a body of Uptime Kuma", sample="generic.uptimekuma", alerts=1, params=kuma),
        Scene(shows="a script with a wrong token", sample="generic.firing", forged=True),
    ]
