"""Sample deliveries of our own making: two pods of one deployment with the same alert.

One title, project and day is one condition, so that ``alertmanager.resolved`` ends what ``alertmanager.firing`` began.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from signalcraft.domain.deliveries import CANARY_PROJECT
from signalcraft.sources import authorization
from signalcraft.sources.protocol import Sample, Scene

TITLE: Final = "Pod restarts more often than once in ten minutes"
_NO_DATE: Final = "0001-01-01T00:00:00Z"
PODS: Final = ("checkout-7d9c-x2x4v", "checkout-7d9c-9k8lq")

#: The status of each of the two pods, by the sample's name.
_STATUSES: Final[Mapping[str, Sequence[str]]] = {
    "alertmanager.firing": ("firing",),
    "alertmanager.resolved": ("resolved",),
    "alertmanager.two_firing": ("firing", "firing"),
    "alertmanager.one_resolved": ("resolved", "firing"),
}
NAMES: Final = tuple(_STATUSES)


def build(name: str, *, secret: str, **params: Any) -> Sample:  # noqa: ANN401 - those of _alert, checked there
    """Build the sample ``name``, with ``secret`` as bearer token.

    Raises:
        ValueError: no sample has that name.
        TypeError: a parameter is unknown.
    """
    if name not in _STATUSES:
        raise ValueError(f"no sample is called {name!r}; there are {', '.join(NAMES)}")
    alerts = [alert(status, pod=pod, **params) for status, pod in zip(_STATUSES[name], PODS, strict=False)]
    return sample(alerts, secret=secret, action=name.partition(".")[2])


def build_canary(secret: str) -> Sample:
    """Build an alert of the canary's project, which its name marks."""
    now = datetime.now(UTC)
    made = alert("firing", title="Canary: is the way through open?", pod="", started_at=now, severity="info")
    made["labels"]["alertname"] = CANARY_PROJECT
    return sample([made], secret=secret, action="canary")


def alert(  # noqa: PLR0913 - the values of one alert, all with a default
    status: str,
    *,
    title: str = TITLE,
    project: str = "checkout",
    environment: str = "production",
    severity: str = "critical",
    pod: str = PODS[0],
    started_at: datetime | None = None,
) -> dict[str, Any]:
    """Return one alert of a body; ``started_at`` is by default the beginning of the day."""
    now = datetime.now(UTC)
    started_at = started_at or now.replace(hour=0, minute=0, second=0, microsecond=0)
    labels = {
        "alertname": "PodRestarts",
        "env": environment,
        "namespace": "shop",
        "pod": pod,
        "service": project,
        "severity": severity,
    }
    return {
        "status": status,
        "labels": labels,
        "annotations": {
            "summary": title,
            "description": f"{pod} was restarted three times.",
            "runbook_url": "https://runbooks.example.org/PodRestarts",
        },
        "startsAt": started_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "endsAt": now.isoformat(timespec="milliseconds").replace("+00:00", "Z") if status == "resolved" else _NO_DATE,
        "generatorURL": "http://prometheus.example.org/graph?g0.expr=rate%28restarts%5B10m%5D%29+%3E+1&g0.tab=1",
        "fingerprint": hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()[:16],
    }


def sample(alerts: Sequence[Mapping[str, Any]], *, secret: str, action: str = "firing") -> Sample:
    """Return a delivery of ``alerts``."""
    body = {
        "version": "4",
        "groupKey": '{}:{alertname="PodRestarts"}',
        "truncatedAlerts": 0,
        "status": "firing" if any(each["status"] == "firing" for each in alerts) else "resolved",
        "receiver": "signalcraft",
        "groupLabels": {"alertname": "PodRestarts"},
        "commonLabels": {"alertname": "PodRestarts"},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.org",
        "alerts": alerts,
    }
    return Sample(
        resource="alerts",
        action=action,
        headers={
            "Content-Type": "application/json",
            "User-Agent": "Alertmanager/0.28.0",
            "Authorization": f"Bearer {secret}",
        },
        body=json.dumps(body, separators=(",", ":")).encode(),
        reads=frozenset({authorization.HEADER}),
        kind="bearer",
    )


def scenes() -> list[Scene]:
    """Return the scenes of the demo; they begin at this moment, so that they can be played again."""
    now = {"started_at": datetime.now(UTC)}
    return [
        Scene(shows="two pods with one alert", sample="alertmanager.two_firing", alerts=2, params=now),
        Scene(shows="the same pods again, which still fail", sample="alertmanager.two_firing", params=now),
        Scene(shows="the first pod is well: one still fails", sample="alertmanager.one_resolved", params=now),
        Scene(shows="Alertmanager with a wrong token", sample="alertmanager.firing", forged=True),
    ]
