"""Sample bodies of one event: Sentry's stored event, the legacy plugin's, and the service hook's."""

import json
from typing import Any

from signalcraft.sources.sentry.samples.params import Params

_FRAMES = (
    ("shop.http.middleware", "shop/http/middleware.py", "measure", "        response = self.app(request)"),
    ("shop.http.views.checkout", "shop/http/views/checkout.py", "post", "    receipt = orders.place(basket, card)"),
    ("shop.orders.placing", "shop/orders/placing.py", "place", "        charge = payments.charge(order, card)"),
    ("shop.payments.gateway", "shop/payments/gateway.py", "charge", "    answer = self.session.post(url, json=form)"),
    ("urllib3.connectionpool", "urllib3/connectionpool.py", "urlopen", "            raise ReadTimeoutError(self, url)"),
)


def event_alert(params: Params, _action: str) -> dict[str, Any]:
    """Return ``data`` of ``event_alert``.

    It consists of the event, and the rule that sent it.
    """
    data: dict[str, Any] = {"event": stored_event(params), "triggered_rule": params.rule}
    data["event"]["datetime"] = params.with_z
    if params.rule_id is not None:
        data["issue_alert"] = {
            "id": params.rule_id,
            "title": params.rule,
            "sentry_app_id": 817,
            "settings": [{"name": "queue", "value": "payments"}],
        }
    return data


def error(params: Params, _action: str) -> dict[str, Any]:
    """Return ``data`` of ``error``."""
    return {"error": stored_event(params)}


def stored_event(params: Params) -> dict[str, Any]:
    """Return Sentry's stored event with the extras of ``_webhook_event_data``."""
    issue_id = params.issue_id
    links = {
        "url": params.api(f"projects/{params.org}/{params.project}/events/{params.event_id}/"),
        "web_url": params.page(f"issues/{issue_id}/events/{params.event_id}/"),
        "issue_url": params.api(f"organizations/{params.org}/issues/{issue_id}/"),
        "issue_id": issue_id,
    }
    if issue_id is None:
        del links["issue_id"], links["web_url"], links["issue_url"]
    event = {
        "event_id": params.event_id,
        "project": params.project_id,
        "release": params.release,
        "dist": None,
        "platform": "python",
        "message": "",
        "datetime": params.with_offset,
        "tags": _tags(params),
        **_error(params),
        **_environment(params),
        "environment": params.environment,
        **links,
    }
    return event | _occurrence(params)


def _occurrence(params: Params) -> dict[str, Any]:
    kind = params.occurs_as
    if kind is None:
        return {}
    title = kind.transaction or kind.title
    return {
        "type": "transaction" if kind.transaction else "generic",
        "occurrence": kind.occurrence(params.event_id, kind.title),
        "title": title,
        "transaction": kind.transaction or None,
        "culprit": kind.transaction,
        "metadata": {"title": title},
        "level": kind.level,
        "exception": None,
        "location": None,
        "hashes": [],
        "fingerprint": [],
        "tags": [tag for tag in _tags(params) if tag[0] not in {"level", "transaction"}],
    }


def _tags(params: Params, prefix: str = "") -> list[list[str]]:
    # Sentry stores its own tags under a prefix, which only the legacy plugin shows.
    tags = [
        ["browser", "Firefox 151.0"],
        ["browser.name", "Firefox"],
        ["client_os.name", "Linux"],
        ["handled", "no"],
        ["level", params.level],
        ["mechanism", "wsgi"],
        [f"{prefix}release", params.release],
        ["runtime", "CPython 3.13.2"],
        ["server_name", "web-7c9f"],
        ["transaction", "POST /checkout"],
        ["url", "https://shop.example/checkout"],
        [f"{prefix}user", "id:70211"],
    ]
    if params.environment:
        tags.append(["environment", params.environment])
    return sorted(tags)


def _error(params: Params) -> dict[str, Any]:
    moment = params.occurred_at.timestamp()
    return {
        "_metrics": {"bytes.ingested.event": 9127, "bytes.stored.event": 11804},
        "breadcrumbs": {"values": _breadcrumbs(moment)},
        "culprit": "shop.payments.gateway in charge",
        "exception": {
            "values": [
                {
                    "type": params.kind,
                    "value": params.value,
                    "module": "shop.payments.errors",
                    "stacktrace": {"frames": [frame(number) for number in range(len(_FRAMES))]},
                    "mechanism": {"type": "wsgi", "handled": False},
                },
            ],
        },
        "fingerprint": list(params.fingerprint),
        "hashes": [params.grouping_hash],
        "grouping_config": {"id": "newstyle:2023-01-11", "enhancements": "KLUv_SAYwQAA-a"},
        "key_id": "3817402",
        "level": params.level,
        "location": "shop/payments/gateway.py",
        "logger": "shop.payments",
        "metadata": {
            "type": params.kind,
            "value": params.value,
            "filename": "shop/payments/gateway.py",
            "function": "charge",
        },
        "nodestore_insert": moment + 0.9,
        "received": moment + 0.4,
        "time_spent": None,
        "timestamp": moment,
        "title": params.title,
        "transaction": "POST /checkout",
        "type": "error",
        "version": "7",
    }


def _environment(params: Params) -> dict[str, Any]:
    return {
        "contexts": {
            "browser": {"name": "Firefox", "version": "151.0", "type": "browser"},
            "client_os": {"name": "Linux", "type": "os"},
            "runtime": {"name": "CPython", "version": "3.13.2", "build": "3.13.2 (main)", "type": "runtime"},
            "trace": {
                "trace_id": params.event_id[::-1],
                "span_id": params.event_id[:16],
                "op": "http.server",
                "status": "internal_error",
                "type": "trace",
            },
        },
        "extra": {"sys.argv": ["gunicorn", "shop.wsgi:app"], "basket": "3 articles, 61.40 EUR"},
        "modules": {"flask": "3.1.3", "requests": "2.34.2", "urllib3": "2.8.0", "sentry-sdk": "2.48.0"},
        "request": {
            "url": "https://shop.example/checkout",
            "method": "POST",
            "query_string": [["step", "pay"]],
            "cookies": [["session", "[Filtered]"]],
            "headers": [
                ["Accept", "application/json"],
                ["Content-Type", "application/json"],
                ["Host", "shop.example"],
                ["User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:151.0) Gecko/20100101 Firefox/151.0"],
            ],
            "data": {"basket": "b-19402", "method": "card"},
            "env": {"SERVER_NAME": "web-7c9f", "SERVER_PORT": "8000"},
        },
        "sdk": {
            "name": "sentry.python.flask",
            "version": "2.48.0",
            "integrations": ["flask", "logging", "stdlib"],
            "packages": [{"name": "pypi:sentry-sdk", "version": "2.48.0"}],
        },
        "user": {"id": "70211", "email": "mira@customer.example", "ip_address": "198.51.100.23"},
    }


def _breadcrumbs(moment: float) -> list[dict[str, Any]]:
    entries = (
        ("query", "SELECT id, total FROM basket WHERE id = %s"),
        ("httplib", "GET https://stock.internal/articles?ids=11,17,42"),
        ("shop.payments", "charging 61.40 EUR, attempt 2 of 2"),
    )
    return [
        {"timestamp": moment - 3 + step, "type": "default", "category": category, "level": "info", "message": message}
        for step, (category, message) in enumerate(entries)
    ]


def frame(number: int) -> dict[str, Any]:
    """Return one stack frame, with source context and variables."""
    module, filename, function, source = _FRAMES[number % len(_FRAMES)]
    return {
        "function": function,
        "module": module,
        "filename": filename,
        "abs_path": f"/srv/app/{filename}",
        "lineno": 40 + number,
        "pre_context": [f"    def {function}(self, *args, **kwargs):", "        started = monotonic()", "        try:"],
        "context_line": source,
        "post_context": ["        finally:", "            self.seconds.observe(monotonic() - started)"],
        "in_app": module.startswith("shop"),
        "vars": {"self": f"<{module} object at 0x7f41c2{number:06x}>", "attempt": "2", "currency": "'EUR'"},
    }


def frames_of(size: int) -> list[dict[str, Any]]:
    """Return the frames that fit into ``size`` JSON bytes.

    There are as many as fit.
    """
    frames: list[dict[str, Any]] = []
    while (size := size - len(json.dumps(one := frame(len(frames)), separators=(",", ":"))) - 1) >= 0:
        frames.append(one)
    return frames


def frames_in(body: dict[str, Any]) -> list[Any]:
    """Return the frames of a sample body.

    The list is empty if the body reports no event.
    """
    data = body.get("data", body)
    event = data.get("event") or data.get("error") or {}
    entries = event.get("entries", [])
    exceptions: dict[str, Any] = event.get("exception") or next((entry["data"] for entry in entries), {})
    frames: list[Any] = exceptions["values"][-1]["stacktrace"]["frames"] if exceptions else []
    return frames


def legacy(params: Params) -> dict[str, Any]:
    """Return the legacy plugin's current body.

    It is flat and unsigned, with the tags under their stored names.
    """
    event = stored_event(params)
    for name in ("datetime", "project", "url", "web_url", "issue_url", "issue_id"):
        event.pop(name, None)
    return {
        "id": params.issue_id,
        "project": params.project,
        "project_name": params.project.title(),
        "project_slug": params.project,
        "logger": "shop.payments",
        "level": params.level,
        "culprit": "shop.payments.gateway in charge",
        "message": "",
        "url": f"{params.page(f'issues/{params.issue_id}/')}?referrer=webhooks_plugin",
        "triggering_rules": [params.rule],
        "event": event | {"tags": _tags(params, "sentry:"), "id": params.event_id},
    }


def legacy_ancient(params: Params) -> dict[str, Any]:
    """Return the complete body of the plugin's first version."""
    return {
        "id": params.issue_id,
        "project": params.project,
        "message": params.title,
        "culprit": "shop.payments.gateway in charge",
        "logger": "shop.payments",
        "level": params.level,
    }


def service_hook(params: Params) -> dict[str, Any]:
    """Return a service hook's body.

    Sentry's ``get_payload_v0`` makes it, with the event in the API's format.
    """
    stored = stored_event(params)
    return {
        "project": {"slug": params.project, "name": params.project.title()},
        "group": {
            "id": params.issue_id,
            "title": params.title,
            "culprit": stored["culprit"],
            "level": params.level,
            "count": str(params.count),
            "project": {"id": str(params.project_id), "slug": params.project},
            "url": params.page(f"issues/{params.issue_id}/"),
        },
        "event": {
            "id": params.event_id,
            "eventID": params.event_id,
            "groupID": params.issue_id,
            "projectID": str(params.project_id),
            "dateCreated": params.with_z,
            "dateReceived": params.with_z,
            "title": stored["title"],
            "message": "",
            "culprit": stored["culprit"],
            "platform": "python",
            "type": "error",
            "metadata": stored["metadata"],
            "tags": [{"key": key, "value": value} for key, value in stored["tags"]],
            "entries": [
                {"type": "exception", "data": stored["exception"]},
                {"type": "breadcrumbs", "data": stored["breadcrumbs"]},
                {"type": "request", "data": stored["request"]},
            ],
            "contexts": stored["contexts"],
            "user": stored["user"],
            "sdk": stored["sdk"],
            "url": params.page(f"issues/{params.issue_id}/events/{params.event_id}/"),
            **({"occurrence": stored["occurrence"]} if "occurrence" in stored else {}),
        },
    }
