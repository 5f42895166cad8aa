"""The groups of one problem, over HTTP."""

from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient

from signalcraft.storage import tenants
from signalcraft.storage.database import session
from tests.support.builders import NOON, groups, pending_event, record
from tests.support.web_client import add_workspace, ask, code_of, web

MINUTES_AGO = (datetime.now(UTC) - NOON).total_seconds() / 60


@pytest.fixture
def client(environ: dict[str, str]) -> FlaskClient:
    add_workspace()
    return web(environ)


def test_the_groups_of_a_key_are_listed_in_pages_with_how_often_the_problem_was_seen(client: FlaskClient) -> None:
    record(*(pending_event(minute=MINUTES_AGO - minute) for minute in (0, 100, 200)), pending_event(issue="2"))
    chain = sorted((group.id for group in groups() if group.issue_id == "1"), reverse=True)
    first = ask(client, f"/groups/{chain[1]}/occurrences?limit=2").get_json()
    rest = ask(client, f"/groups/{chain[1]}/occurrences?limit=2&cursor={first['next_cursor']}").get_json()
    assert [group["id"] for group in first["groups"] + rest["groups"]] == chain
    assert rest["next_cursor"] is None
    assert first["seen"] == rest["seen"]
    assert first["seen"]["groups"] == 3
    assert 1 <= first["seen"]["days"] <= 2


def test_the_occurrences_of_another_workspaces_group_are_not_found(client: FlaskClient) -> None:
    add_workspace("acme")
    record(pending_event())
    with session():
        token = tenants.create_token("acme", can_write=False, name="acme")
    assert code_of(ask(client, "/groups/1/occurrences", token)) == "not_found"


def test_the_cursor_of_another_group_is_refused(client: FlaskClient) -> None:
    record(*(pending_event(minute=minute) for minute in (0, 100)), pending_event(issue="2"))
    one, *_, other = (group.id for group in groups())
    cursor = ask(client, f"/groups/{one}/occurrences?limit=1").get_json()["next_cursor"]
    assert code_of(ask(client, f"/groups/{other}/occurrences?cursor={cursor}")) == "cursor_invalid"
