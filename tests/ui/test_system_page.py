"""The page of the system, and the switch that turns all pages off."""

import subprocess
import sys
from collections.abc import Callable

from flask.testing import FlaskClient

from signalcraft.storage import tenants
from signalcraft.storage.database import session
from signalcraft.storage.delivery_models import FailedDelivery
from signalcraft.storage.notification_models import Notification, ReceiverState
from tests.support.browser_client import sign_in
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
    for text in ("PostgreSQL", "Redis queue alerts", "Inbox", "2 alerts", "of-this-workspace", "failed replay 1"):
        assert text in page, text
    assert "replay --failed --workspace default" in page
    assert "of-another-workspace" not in page


def test_only_the_default_workspace_sees_receivers_and_what_is_of_all_workspaces(
    client: FlaskClient, environ: dict[str, str]
) -> None:
    add_workspace("other")
    for number in range(7):
        dead_letter(1, f"of-the-default-{number}")
    dead_letter(2, "of-the-other")
    with session():
        ReceiverState.insert(
            receiver="ops-pager", last_error_at="2026-03-01T12:00:00Z", last_error_code="auth"
        ).execute()
        for workspace, receiver in ((1, "ops-pager"), (1, "ops-pager"), (2, "ops-pager")):
            Notification.insert(
                workspace=workspace, receiver=receiver, route="all", mode="event", reason="new", rank=1, title="x",
                state="given_up", happened_at="2026-03-01T12:00:00Z", due_at="2026-03-01T12:00:00Z",
            ).execute()  # fmt: skip
        token = tenants.create_token("other", can_write=False, name="reader")
    seen = client.get("/system").text
    for text in ("ops-pager", "8 in all workspaces", "Redis queue alerts", "3 given up"):
        assert text in seen, text
    other = web(environ)
    sign_in(other, token)
    page = other.get("/system").text
    for text in ("ops-pager", "all workspaces", "Redis queue alerts", "3 given up", "of-the-default"):
        assert text not in page, text
    for text in ("PostgreSQL", "1 in other", "1 given up", "of-the-other"):
        assert text in page, text


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
