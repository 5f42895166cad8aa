"""The API of notifications: who was told of a group, how it went; and an update wakes the notifier."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from signalcraft.domain.notifications import default_rule
from signalcraft.notify import trouble
from signalcraft.notify.config import NotifyConfig
from signalcraft.notify.contract import Outcome, OutcomeKind
from signalcraft.notify.notifier import Notifier
from signalcraft.notify.routes import Route
from signalcraft.storage import tenants
from signalcraft.storage.database import session
from tests.support.builders import pending_event, record
from tests.support.receivers import RecordingReceiver
from tests.support.web_client import TOKEN, add_workspace, ask, code_of, web

RETRY = Outcome(kind=OutcomeKind.RETRY, code="http_503", http_status=503, detail="overloaded")
REFUSED = Outcome(kind=OutcomeKind.REFUSED, code="http_400", http_status=400)


@pytest.fixture
def client(environ: dict[str, str]) -> FlaskClient:
    add_workspace()
    return web(environ)


def tell(*issues: str, ops: Sequence[Outcome] = (), mail: Sequence[Outcome] = (), workspace_id: int = 1) -> None:
    """Store an alert for each of ``issues``, and tell the receivers ops and mail of them."""
    now = datetime.now(UTC)
    events = [pending_event(issue=issue, workspace_id=workspace_id) for issue in issues]
    record(*(replace(event, alert=replace(event.alert, received_at=now, occurred_at=now)) for event in events))
    receivers = {"ops": RecordingReceiver("ops", ops), "mail": RecordingReceiver("mail", mail)}
    config = NotifyConfig(receivers=receivers, routes=(Route(name="all", to=("ops", "mail")),))
    notifier = Notifier(config, [default_rule])
    notifier.run_until_idle()
    with session():
        trouble.tell(config, "inbox_in_use", "The inbox is in use")
    notifier.run_until_idle()


def listed(client: FlaskClient, path: str = "/notifications", token: str = TOKEN) -> list[dict[str, Any]]:
    response = ask(client, path, token)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.get_json()["notifications"]
    return found


def test_a_group_shows_who_was_told_of_it_and_each_attempt(client: FlaskClient) -> None:
    tell("1", ops=[RETRY])
    mail, ops = sorted(listed(client, "/groups/1/notifications"), key=lambda row: row["receiver"])
    assert (mail["state"], mail["reason"], mail["route"], mail["group_id"]) == ("sent", "opened", "all", 1)
    assert [(each["outcome"], each["detail"]) for each in mail["attempts"]] == [("sent", "")]
    assert (ops["state"], ops["sent_at"], ops["tries"]) == ("pending", None, 1)
    (attempt,) = ops["attempts"]
    assert (attempt["outcome"], attempt["code"], attempt["http_status"]) == ("retry", "http_503", 503)
    assert attempt["detail"] == "overloaded"


def test_what_is_about_no_group_is_not_listed(client: FlaskClient) -> None:
    tell("1")
    assert {row["group_id"] for row in listed(client)} == {1}
    assert len(listed(client)) == 2


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("receiver=ops", {("ops", 1), ("ops", 2)}),
        ("receiver=mail&group=2", {("mail", 2)}),
        ("state=given_up", {("ops", 1)}),
        ("state=sent&receiver=ops", {("ops", 2)}),
        ("group=0", set()),
        ("receiver=nobody", set()),
    ],
)
def test_the_list_is_filtered(client: FlaskClient, query: str, expected: set[tuple[str, int]]) -> None:
    tell("1", "2", ops=[REFUSED])
    assert {(row["receiver"], row["group_id"]) for row in listed(client, f"/notifications?{query}")} == expected


def test_pages_have_every_notification_once_newest_first(client: FlaskClient) -> None:
    tell(*(str(number) for number in range(7)))
    found, cursor = [], ""
    while True:
        page = ask(client, f"/notifications?limit=3{cursor}").get_json()
        found += [row["id"] for row in page["notifications"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(found) == len(set(found)) == 14
    assert found == sorted(found, reverse=True)


def test_a_cursor_of_another_list_is_refused(client: FlaskClient) -> None:
    tell("1", "2")
    cursor = ask(client, "/notifications?limit=1").get_json()["next_cursor"]
    for path in ("/notifications?receiver=ops&", "/groups/1/notifications?", "/events?"):
        assert code_of(ask(client, f"{path}limit=1&cursor={cursor}")) == "cursor_invalid"


def test_another_workspace_sees_nothing_of_it(client: FlaskClient) -> None:
    tell("1")
    add_workspace("acme")
    with session():
        token = tenants.create_token("acme", can_write=False, name="acme")
    assert listed(client, token=token) == []
    assert listed(client, "/notifications?group=1", token) == []
    assert code_of(ask(client, "/groups/1/notifications", token)) == "not_found"
    assert code_of(ask(client, "/groups/999/notifications")) == "not_found"


@pytest.mark.parametrize(
    "query",
    [
        "state=lost",
        "state=sent&state=sent",
        "receiver=",
        "receiver=%00",
        f"receiver={'x' * 201}",
        "group=x",
        "group=-1",
        f"group={2**63}",
        "limit=0",
        "q=x",
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_name(client: FlaskClient, query: str) -> None:
    response = ask(client, f"/notifications?{query}")
    assert code_of(response) == "fields_invalid"
    assert list(response.get_json()["errors"]) == [query.partition("=")[0]]


def test_a_group_s_own_list_takes_no_group(client: FlaskClient) -> None:
    tell("1")
    assert code_of(ask(client, "/groups/1/notifications?group=1")) == "fields_invalid"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/api/v1/groups/1", {"status": "ack"}),
        ("POST", "/api/v1/groups/bulk", {"ids": [1], "set": {"status": "ack"}}),
    ],
)
def test_an_update_wakes_the_notifier(
    environ: dict[str, str], clean_redis: Redis, method: str, path: str, body: dict[str, Any]
) -> None:
    add_workspace()
    record(pending_event())
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert web(environ).open(path, method=method, json=body, headers=headers).status_code == 200
    assert clean_redis.llen("rq:queue:notifications") == 1


def test_an_update_is_made_without_redis_too(environ: dict[str, str]) -> None:
    add_workspace()
    record(pending_event())
    client = web(environ, REDIS_URL="redis://127.0.0.1:1/0")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert client.patch("/api/v1/groups/1", json={"status": "ack"}, headers=headers).status_code == 200
