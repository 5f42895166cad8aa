"""Sample deliveries of our own making: a queue that grows on two instances.

One title, project and day is one condition, so that ``grafana.resolved`` ends what ``grafana.firing`` began.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from signalcraft.domain.deliveries import CANARY_PROJECT
from signalcraft.sources.grafana import signature
from signalcraft.sources.protocol import Sample, Scene

TITLE: Final = "The queue of orders has grown for ten minutes"
INSTANCES: Final = ("orders-1", "orders-2")
_NO_DATE: Final = "0001-01-01T00:00:00Z"
_ROOT: Final = "https://grafana.example.org"

#: The status of each alert, by the sample's name.
_STATUSES: Final[Mapping[str, Sequence[str]]] = {
    "grafana.firing": ("firing",),
    "grafana.resolved": ("resolved",),
    "grafana.two_firing": ("firing", "firing"),
    "grafana.no_data": ("firing",),
    "grafana.signed": ("firing",),
}
NAMES: Final = tuple(_STATUSES)


def build(name: str, *, secret: str, **params: Any) -> Sample:  # noqa: ANN401 - those of alert, checked there
    """Build the sample ``name``, with ``secret`` as bearer token, or as the key of ``grafana.signed``.

    Raises:
        ValueError: no sample has that name.
        TypeError: a parameter is unknown.
    """
    if name not in _STATUSES:
        raise ValueError(f"no sample is called {name!r}; there are {', '.join(NAMES)}")
    if name == "grafana.no_data":
        params = {"alertname": "DatasourceNoData", **params}
    alerts = [
        alert(status, instance=instance, **params) for status, instance in zip(_STATUSES[name], INSTANCES, strict=False)
    ]
    return sample(alerts, secret=secret, action=name.partition(".")[2], is_signed=name == "grafana.signed")


def build_canary(secret: str) -> Sample:
    """Build an alert of the canary's project, which its name marks."""
    now = datetime.now(UTC)
    made = alert("firing", title="Canary: is the way through open?", alertname=CANARY_PROJECT, started_at=now)
    return sample([made], secret=secret, action="canary")


def alert(  # noqa: PLR0913 - the values of one alert, all with a default
    status: str,
    *,
    title: str = TITLE,
    project: str = "orders",
    environment: str = "production",
    severity: str = "warning",
    instance: str = INSTANCES[0],
    alertname: str = "QueueGrows",
    started_at: datetime | None = None,
) -> dict[str, Any]:
    """Return one alert of a body; ``started_at`` is by default the beginning of the day."""
    now = datetime.now(UTC)
    started_at = started_at or now.replace(hour=0, minute=0, second=0, microsecond=0)
    labels = {
        "__alert_rule_uid__": "queue-grows",
        "alertname": alertname,
        "env": environment,
        "grafana_folder": "Orders",
        "instance": instance,
        "service": project,
        "severity": severity,
    }
    return {
        "status": status,
        "labels": labels,
        "annotations": {
            "summary": title,
            "description": f"More orders come in than {instance} can take.",
            "runbook_url": "https://runbooks.example.org/QueueGrows",
        },
        "startsAt": started_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "endsAt": now.isoformat(timespec="seconds").replace("+00:00", "Z") if status == "resolved" else _NO_DATE,
        "generatorURL": f"{_ROOT}/alerting/grafana/queue-grows/view?orgId=1",
        "fingerprint": hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()[:16],
        "silenceURL": f"{_ROOT}/alerting/silence/new?matcher=instance%3D{instance}&orgId=1",
        "dashboardURL": f"{_ROOT}/d/orders?orgId=1",
        "panelURL": f"{_ROOT}/d/orders?orgId=1&viewPanel=4",
        "values": {"A": 1240, "C": 1},
        "valueString": "[ var='A' labels={} value=1240 ], [ var='C' labels={} value=1 ]",
    }


def sample(
    alerts: Sequence[Mapping[str, Any]], *, secret: str, action: str = "firing", is_signed: bool = False
) -> Sample:
    """Return a delivery of ``alerts``."""
    is_firing = any(each["status"] == "firing" for each in alerts)
    body = json.dumps(
        {
            "receiver": "signalcraft",
            "status": "firing" if is_firing else "resolved",
            "alerts": alerts,
            "groupLabels": {"alertname": "QueueGrows"},
            "commonLabels": {"alertname": "QueueGrows"},
            "commonAnnotations": {},
            "externalURL": f"{_ROOT}/",
            "version": "1",
            "groupKey": '{}:{alertname="QueueGrows"}',
            "truncatedAlerts": 0,
            "orgId": 1,
            "title": f"[{'FIRING' if is_firing else 'RESOLVED'}:{len(alerts)}] QueueGrows",
            "state": "alerting" if is_firing else "ok",
            "message": "",
        },
        separators=(",", ":"),
    ).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "Grafana"}
    if is_signed:
        timestamp = str(int(datetime.now(UTC).timestamp()))
        headers["X-Grafana-Alerting-Timestamp"] = timestamp
        headers["X-Grafana-Alerting-Signature"] = signature.sign(body, secret.encode(), timestamp)
    else:
        headers["Authorization"] = f"Bearer {secret}"
    return Sample(
        resource="alerts",
        action=action,
        headers=headers,
        body=body,
        reads=signature.HEADERS,
        kind=signature.SIGNED if is_signed else signature.BEARER,
    )


def scenes() -> list[Scene]:
    """Return the scenes of the demo; they begin at this moment, so that they can be played again."""
    now = {"started_at": datetime.now(UTC), "title": TITLE}
    return [
        Scene(shows="one alert of two instances", sample="grafana.two_firing", alerts=2, params=now),
        Scene(shows="the same again, signed", sample="grafana.signed", params=now),
        Scene(shows="Grafana with a wrong token", sample="grafana.firing", forged=True),
    ]
