"""Timeouts of a web process, for tests that are not about them."""

import pytest

from signalcraft.api import context as api_context
from signalcraft.ingest import credential_cache, durable_enqueue
from signalcraft.queues import enqueue, redis_clients, used_once
from signalcraft.web import health

_SECONDS = 15.0


def lengthen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer than any pause of a busy machine, where the product has 0.2 to 0.8 s, as senders and probes do."""
    for module, name in (
        (api_context, "_WAKE_TIMEOUT_SECONDS"),
        (credential_cache, "REFRESH_TIMEOUT_SECONDS"),
        (credential_cache, "FIRST_READ_TIMEOUT_SECONDS"),
        (durable_enqueue, "_RESPONSE_TIMEOUT_SECONDS"),
        (enqueue, "_ENQUEUE_TIMEOUT_SECONDS"),
        (health, "PROBE_TIMEOUT_SECONDS"),
    ):
        monkeypatch.setattr(module, name, _SECONDS)
    monkeypatch.setattr(used_once, "deadline", lambda _: redis_clients.deadline(_SECONDS))
    longer = {"socket_timeout": _SECONDS, "socket_connect_timeout": _SECONDS}
    monkeypatch.setattr(redis_clients, "_WEB", {**redis_clients._WEB, **longer})
