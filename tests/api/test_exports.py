"""Exports, estimates, and isolation of workspaces."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from signalcraft import thread_budgets
from signalcraft.groups.reading import queries
from signalcraft.storage import tenants
from signalcraft.storage.database import session
from tests.support.builders import pending_event, record
from tests.support.web_client import TOKEN, add_workspace, ask, code_of, web


@pytest.fixture
def client(environ: dict[str, str]) -> FlaskClient:
    add_workspace()
    return web(environ)


@pytest.fixture
def outsider(client: FlaskClient) -> str:  # noqa: ARG001 - for that its workspace is the first
    """A token of another workspace, with the write scope."""
    add_workspace("acme")
    with session():
        return tenants.create_token("acme", can_write=True, name="acme")


def lines(client: FlaskClient, path: str, token: str = TOKEN) -> list[dict[str, Any]]:
    response = ask(client, path, token)
    assert response.mimetype == "application/x-ndjson"
    return [json.loads(line) for line in response.get_data(as_text=True).splitlines()]


def test_an_export_has_every_group_once_as_the_list_has_it(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "EXPORT_PAGE", 3)
    record(*(pending_event(issue=str(number), minute=number) for number in range(8)))
    exported = lines(client, "/groups/export")
    listed = ask(client, "/groups?limit=200").get_json()["groups"]
    assert sorted(exported, key=lambda group: group["id"]) == exported
    assert sorted(listed, key=lambda group: group["id"]) == exported
    assert lines(client, "/groups/export?environment=dev") == []


def test_an_export_holds_a_permit_until_it_is_read(client: FlaskClient) -> None:
    record(pending_event("a"))
    open_ones = [ask(client, "/groups/export") for _ in range(thread_budgets.MAX_EXPORTS)]
    assert ask(client, "/groups/export").status_code == 503
    for response in open_ones:
        response.close()
    assert ask(client, "/groups").status_code == 200


def test_an_export_has_every_event_of_a_group(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "EXPORT_PAGE", 2)
    record(*(pending_event(f"e{minute}", minute) for minute in range(5)))
    exported = lines(client, "/groups/1/events/export")
    assert exported == ask(client, "/groups/1/events").get_json()["events"]


@pytest.mark.parametrize("path", ["/groups/export?limit=5", "/groups/export?sort=count", "/groups/1/events/export?q=a"])
def test_an_export_takes_no_page_parameters(client: FlaskClient, path: str) -> None:
    assert code_of(ask(client, path)) == "fields_invalid"


def test_the_total_is_estimated_only_on_request(client: FlaskClient) -> None:
    record(pending_event())
    assert "total_estimate" not in ask(client, "/groups").get_json()
    page = ask(client, "/groups?total=estimate").get_json()
    assert isinstance(page["total_estimate"], int)
    refused = ask(client, "/groups?total=exact")
    assert list(refused.get_json()["errors"]) == ["total"]


@pytest.mark.parametrize(
    "path", ["/groups/1", "/groups/1/events", "/groups/1/history", "/groups/1/events/export", "/events/1"]
)
def test_groups_and_events_of_another_workspace_are_not_found(client: FlaskClient, outsider: str, path: str) -> None:
    record(pending_event())
    assert ask(client, path).status_code == 200
    response = ask(client, path, outsider)
    assert (response.status_code, code_of(response)) == (404, "not_found")
    assert lines(client, "/groups/export", outsider) == []


@pytest.mark.parametrize("path", ["/groups/1", "/events/1", "/events/1/explain", "/groups/1/history", "/stats"])
def test_every_route_names_an_unknown_parameter(client: FlaskClient, path: str) -> None:
    record(pending_event())
    response = ask(client, f"{path}?unknown=1")
    assert (response.status_code, list(response.get_json()["errors"])) == (422, ["unknown"])
