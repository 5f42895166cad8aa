"""Scenes of the demo."""

import uuid

from signalcraft.sources.protocol import Scene


def scenes() -> list[Scene]:
    """Return the scenes in order.

    Event ids are new each time, so that they can be sent again to the same data.
    """
    event_id, other_event_id = uuid.uuid4().hex, uuid.uuid4().hex
    timeout = {"title": "PaymentTimeout: card gateway did not answer within 5.0 s"}
    catalog = {"project": "catalog", "fingerprint": ["{{ default }}"]}
    missing = {"title": "KeyError: 'price'", **catalog}
    return [
        Scene(shows="a new issue", sample="event_alert.triggered", alerts=1, params={"event_id": event_id, **timeout}),
        Scene(
            shows="the same delivery again", sample="event_alert.triggered", params={"event_id": event_id, **timeout}
        ),
        Scene(
            shows="the same event by another rule",
            sample="event_alert.triggered",
            params={"event_id": event_id, "rule": "Everything to SignalCraft", **timeout},
        ),
        Scene(shows="more events of the issue", sample="event_alert.triggered", times=25, alerts=25, params=timeout),
        Scene(
            shows="the issue in another environment",
            sample="event_alert.triggered",
            times=3,
            alerts=3,
            params={"environment": "staging", "level": "warning", **timeout},
        ),
        Scene(
            shows="an event received as error.created",
            sample="error.created",
            alerts=1,
            params={"event_id": other_event_id, **missing},
        ),
        Scene(
            shows="… and as event_alert too",
            sample="event_alert.triggered",
            params={"event_id": other_event_id, **missing},
        ),
        Scene(
            shows="another issue with {{ default }}",
            sample="event_alert.triggered",
            times=4,
            alerts=4,
            params={"title": "TemplateSyntaxError: unknown tag 'pricee'", "level": "fatal", **catalog},
        ),
        Scene(
            shows="a metric alert",
            sample="metric_alert.critical",
            alerts=1,
            params={"project": "search", "title": "p95 latency above 800 ms"},
        ),
        Scene(shows="a comment, which is no alert", sample="comment.created"),
        Scene(shows="a delivery with a forged signature", sample="event_alert.triggered", forged=True),
        Scene(shows="the legacy plugin without a token", sample="legacy.modern", forged=True),
        Scene(shows="the first issue resolved in Sentry", sample="issue.resolved", params=timeout),
    ]
