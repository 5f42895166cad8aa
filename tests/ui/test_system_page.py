"""The page of the system, and the switch that turns all pages off."""

import subprocess
import sys
from collections.abc import Callable

from flask.testing import FlaskClient

from signalcraft.storage.database import session
from signalcraft.storage.models import FailedDelivery
from tests.support.web_client import add_workspace, web


def dead_letter(workspace_id: int, reason: str) -> None:
    with session():
        FailedDelivery.insert(
            workspace_id=workspace_id, delivery_id=reason, delivery_key=reason, source="sentry", resource="event_alert",
            headers_json={}, body=b"{}", received_at="2026-03-01T12:00:00Z", stage="normalize", code="shape_unexpected",
            reason=reason,
        ).execute()  # fmt: skip


def test_the_system_shows_what_works_waits_and_failed(client: FlaskClient, alert: Callable[..., None]) -> None:
    alert("one", "two")
    add_workspace("other")
    dead_letter(1, "of-this-workspace")
    dead_letter(2, "of-another-workspace")
    page = client.get("/system").text
    for text in ("PostgreSQL", "Queue alerts", "Inbox", "2 alerts", "of-this-workspace", "failed replay 1"):
        assert text in page, text
    assert "replay --failed --workspace default" in page
    assert "of-another-workspace" not in page


def test_the_system_is_shown_while_redis_is_unavailable(client: FlaskClient, environ: dict[str, str]) -> None:
    cookie = client.get_cookie("signalcraft")
    assert cookie
    other = web(environ, REDIS_URL="redis://127.0.0.1:1/0")
    other.set_cookie("signalcraft", cookie.value)
    page = other.get("/system")
    assert page.status_code == 200
    assert "Redis is unavailable" in page.text


def test_without_pages_none_is_served_and_none_imported(environ: dict[str, str]) -> None:
    code = """
import os, sys
from signalcraft.settings import Settings
from signalcraft.web.app import create_app
app = create_app(Settings.from_environ(os.environ))
assert not [name for name in sys.modules if name.startswith("signalcraft.ui")]
client = app.test_client()
assert client.get("/").mimetype == "text/plain"
for path in ("/login", "/alerts", "/alerts/1", "/system", "/assets/app.css"):
    assert client.get(path).status_code == 404, path
"""
    done = subprocess.run([sys.executable, "-c", code], env={**environ, "UI": "off"}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
