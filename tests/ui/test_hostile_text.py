"""Text of senders stays text, whatever field it comes in."""

import re
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from signalcraft.storage.database import session
from signalcraft.storage.delivery_models import FailedDelivery
from signalcraft.storage.models import AlertEvent, AlertGroup, GroupChange, SavedView
from signalcraft.storage.notification_models import Notification, ReceiverState

TEXTS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "</title></textarea></pre><b>bold",
    "javascript:alert(1)",
    "\u202ereversed <i>",
    "&lt;b&gt; &amp; & <b",
]
PATHS = ("/alerts", "/alerts?status=all", "/alerts/1", "/alerts/1/events/1", "/system")
#: Elements that our templates have; any other would come from a text.
_FOREIGN = re.compile(
    r"<(?:script(?! type=\"module\" src=\"/assets/)|img|svg/|iframe|b>bold|i>(?!read|write))", re.IGNORECASE
)


def fill(text: str) -> None:
    with session():
        SavedView.create(workspace=1, name=text, query="")
        AlertGroup.update(
            title=text, project=text, environment=text, link=text, assignee_user_id=text, runbook_url=text
        ).execute()
        AlertEvent.update(
            title=text, message=text, link=text, source_event_id=text, delivery_id=text, project=text,
            environment=text, tags_json=[[text, text]], triggered_rules=[text],
        ).execute()  # fmt: skip
        for field in ("assignee_user_id", "runbook_url"):
            GroupChange.create(
                workspace=1, alert_group=1, changed_at=AlertGroup.get_by_id(1).last_seen_at, actor="token",
                changed_by=text, field=field, from_value=text, to_value=text, note=text,
            )  # fmt: skip
        Notification.create(
            workspace=1, alert_group=1, receiver=text, route=text, mode="event", reason=text, rank=1, title=text,
            happened_at=AlertGroup.get_by_id(1).last_seen_at, due_at=AlertGroup.get_by_id(1).last_seen_at,
        )  # fmt: skip
        ReceiverState.insert(
            receiver=text, broken_code=text, broken_since=AlertGroup.get_by_id(1).last_seen_at
        ).execute()
        FailedDelivery.create(
            workspace_id=1, delivery_id=text, delivery_key=text, source=text, resource=text, headers_json={},
            body=b"", received_at=AlertGroup.get_by_id(1).last_seen_at, stage=text, code=text, reason=text,
        )  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_hostile_text_in_every_field_stays_text(client: FlaskClient, alert: Callable[..., None], text: str) -> None:
    alert("one")
    fill(text)
    for path in PATHS:
        response = client.get(path)
        assert response.status_code == 200
        assert not _FOREIGN.search(response.text), path
        assert "49" not in re.findall(r"<h1[^>]*>([^<]*)<", response.text)
        hrefs = re.findall(r'href="([^"]*)"', response.text)
        assert all(href.startswith(("/", "#", "https://", "http://")) for href in hrefs), path


@pytest.mark.parametrize("text", TEXTS)
def test_hostile_parameters_stay_text(client: FlaskClient, text: str) -> None:
    for name in ("q", "project", "environment", "assignee", "source", "done", "sort", "cursor", text):
        response = client.get("/alerts", query_string={name: text})
        assert response.status_code in (200, 400, 422)
        assert not _FOREIGN.search(response.text), name
    login = client.get("/login", query_string={"next": text, "link": text})
    assert not _FOREIGN.search(login.text)


def test_a_hostile_body_is_shown_as_it_is(client: FlaskClient, alert: Callable[..., None]) -> None:
    alert(TEXTS[0])
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in client.get("/alerts/1").text
