"""The page of a group and of an event: what they show, and what their forms do."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient

from signalcraft.domain.alerts import GroupStatus
from signalcraft.groups.user_updates import GroupUpdate, update_group
from signalcraft.sources import SOURCES
from signalcraft.storage.audit_log import Actor
from signalcraft.storage.database import session
from signalcraft.storage.models import AlertEvent, AlertGroup, GroupChange
from signalcraft.ui import actions
from tests.support.browser_client import submit, version_of
from tests.support.builders import groups, minutes_ago, pending_event, record

Alert = Callable[..., None]


def group(group_id: int = 1) -> AlertGroup:
    with session():
        found: AlertGroup = AlertGroup.get_by_id(group_id)
    return found


def act(client: FlaskClient, action: str, **data: str) -> int:
    page = client.get("/alerts/1")
    fields = {"action": action, "version": version_of(page), **data}
    return submit(client, "/alerts/1", page=page, data=fields).status_code


def test_a_group_shows_what_is_known_of_it(client: FlaskClient, alert: Alert) -> None:
    alert("KeyError: 'price'", "KeyError: 'price'", project="shop")
    page = client.get("/alerts/1").text
    for text in (
        "KeyError: &#39;price&#39;",
        "2 alerts",
        "shop",
        "First alert",
        "release",
        "Raw body",
        "fingerprint (issue:",
    ):
        assert text in page, text
    assert 'href="https://sentry.io/organizations/northwind/issues/' in page
    assert "joined group 1" in page
    event = re.search(r'href="(/alerts/1/events/\d+)"', page)
    assert event
    assert "KeyError" in client.get(event.group(1)).text


@pytest.mark.parametrize(
    ("source", "words"),
    [(name, source.TITLE) for name, source in SOURCES.items() if name != "generic"]
    + [("generic", "the source"), ("newer", "the source")],
)
def test_the_link_to_its_source_names_it_as_people_write_it(client: FlaskClient, source: str, words: str) -> None:
    record(pending_event("a"))
    with session():
        AlertGroup.update(source=source).execute()
        AlertEvent.update(source=source).execute()
    assert f"Open in {words}</a>" in client.get("/alerts/1").text
    with session():
        event = AlertEvent.get()
    assert f"Open in {words}</a>" in client.get(f"/alerts/1/events/{event.id}").text


def test_every_action_changes_the_group_and_goes_back_to_it(client: FlaskClient, alert: Alert) -> None:
    alert("one")
    assert act(client, "ack") == 303
    assert group().status == "ack"
    assert act(client, "snooze", until="forever") == 303
    assert (group().status, group().snoozed_until) == ("snoozed", None)
    assert act(client, "resolve") == 303
    assert group().status == "resolved"
    assert act(client, "reopen") == 303
    assert group().status == "open"
    assert act(client, "assign", assignee=" ann ") == 303
    assert group().assignee_user_id == "ann"
    assert act(client, "assign", assignee="") == 303
    assert group().assignee_user_id is None
    assert act(client, "runbook", runbook="https://wiki.example.org/x") == 303
    page = client.get("/alerts/1").text
    assert "Open the runbook" in page
    for words in ("Acknowledged", "Snoozed for ever", "Resolved", "Reopened", "Assigned to ann", "Runbook set"):
        assert words in page, words
    assert "by API_TOKEN" in page


WHO = {
    Actor.TOKEN: "by ann",
    Actor.SLACK: "by ann in Slack",
    Actor.SOURCE: "by ann",
    Actor.ALERT: "by a worse alert",
    Actor.CLOCK: "by SignalCraft, after a long time without alerts",
}


@pytest.mark.parametrize(("actor", "words"), [(actor, WHO[actor]) for actor in Actor])
def test_who_changed_a_group_is_named_wherever_they_did(
    client: FlaskClient, alert: Alert, actor: Actor, words: str
) -> None:
    alert("one")
    with session():
        workspace_id = AlertGroup.get_by_id(1).workspace_id
        update_group(
            workspace_id,
            1,
            GroupUpdate(fields={"status": GroupStatus.ACK}, by="ann", at=datetime.now(UTC)),
        )
        GroupChange.update(actor=actor).execute()
    page = client.get("/alerts/1")
    assert page.status_code == 200
    assert f">{words}<" in page.text


@pytest.mark.parametrize(
    ("until", "offset", "ends"),
    [
        ("1h", "", "2026-03-01T23:30"),
        ("4h", "", "2026-03-02T02:30"),
        ("1w", "", "2026-03-08T22:30"),
        ("tomorrow", "", "2026-03-02T09:00"),
        ("tomorrow", "120", "2026-03-03T07:00"),  # it is 0:30 on the second there
        ("tomorrow", "-480", "2026-03-02T17:00"),
        ("tomorrow", "9999999", "2026-03-02T09:00"),
        ("tomorrow", "999", "2026-03-02T19:00"),
        ("tomorrow", "x", "2026-03-02T09:00"),
    ],
)
def test_a_snooze_ends_when_its_words_say(until: str, offset: str, ends: str) -> None:
    now = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)
    fields = actions.fields_of({"action": "snooze", "until": until, "offset": offset}, now=now)
    moment = fields["snoozed_until"]
    assert moment is not None
    assert moment.isoformat()[:16] == ends


def test_a_stale_form_changes_nothing_and_the_page_says_what_was_changed(client: FlaskClient, alert: Alert) -> None:
    alert("one")
    page = client.get("/alerts/1")
    with session():
        update_group(1, 1, GroupUpdate(fields={"status": GroupStatus.ACK}, by="ann", at=datetime.now(UTC)))
    data = {"action": "resolve", "version": version_of(page), "seen": "0"}
    response = submit(client, "/alerts/1", page=page, data=data)
    assert response.status_code == 412
    assert "Nothing was done" in response.text
    assert re.search(r"<li>Acknowledged by ann", response.text)
    assert group().status == "ack"
    assert submit(client, "/alerts/1", page=response, data=data | {"version": version_of(response)}).status_code == 303
    assert group().status == "resolved"


def test_a_note_is_shown_below_its_change_and_to_who_was_slower_whose_own_note_stays_in_the_form(
    client: FlaskClient, alert: Alert
) -> None:
    alert("one")
    stale = client.get("/alerts/1")
    assert act(client, "ack", note="  waiting for <the provider> ") == 303
    assert '<span class="hidden">Note: </span>waiting for &lt;the provider&gt;</p>' in client.get("/alerts/1").text
    data = {"action": "resolve", "version": version_of(stale), "seen": "0", "note": 'rolled back to "1.4"'}
    response = submit(client, "/alerts/1", page=stale, data=data)
    assert response.status_code == 412
    assert re.search(r"<li>Acknowledged by API_TOKEN.*: waiting for &lt;the provider&gt;</li>", response.text)
    assert 'name="note" value="rolled back to &#34;1.4&#34;"' in response.text


def test_a_snooze_that_is_made_for_ever_is_in_the_timeline(client: FlaskClient, alert: Alert) -> None:
    alert("one")
    assert act(client, "snooze", until="1h") == 303
    assert act(client, "snooze", until="forever", note="not this week") == 303
    page = client.get("/alerts/1").text
    assert re.search(r">Snoozed for ever<.*?not this week.*?>Snoozed until 2", page, re.DOTALL)


def test_a_change_that_the_state_does_not_allow_is_said_on_the_page(client: FlaskClient, alert: Alert) -> None:
    alert("one")
    assert act(client, "resolve") == 303
    assert act(client, "ack") == 409


@pytest.mark.parametrize(
    "data",
    [
        {"action": "runbook", "runbook": "javascript:alert(1)"},
        {"action": "assign", "assignee": "a\nb"},
        {"action": "snooze", "until": "yesterday"},
        {"action": "ack", "note": "x" * 501},
        {"action": "delete"},
        {"action": "ack", "version": "x"},
        {"action": "ack", "version": "9" * 30},
    ],
)
def test_a_wrong_value_changes_nothing_and_is_kept_in_the_form(
    client: FlaskClient, alert: Alert, data: dict[str, str]
) -> None:
    alert("one")
    page = client.get("/alerts/1")
    response = submit(client, "/alerts/1", page=page, data={"version": version_of(page), **data})
    assert response.status_code == 422
    assert "Not done." in response.text
    assert data.get("runbook", "") in response.text
    assert data.get("note", "") in response.text
    assert group().version == 1


@pytest.mark.parametrize("path", ["/alerts/0", "/alerts/x", "/alerts/99999999999999999999", "/alerts/1/events/77"])
def test_what_is_not_there_is_a_page_that_says_so(client: FlaskClient, alert: Alert, path: str) -> None:
    alert("one")
    response = client.get(path)
    assert (response.status_code, response.mimetype) == (404, "text/html")
    assert "There is nothing here" in response.text


def test_an_event_is_found_under_its_own_group_only(client: FlaskClient, alert: Alert) -> None:
    alert("one", "two")
    with session():
        first = AlertEvent.get(AlertEvent.alert_group == 1)
    assert client.get(f"/alerts/1/events/{first.id}").status_code == 200
    assert client.get(f"/alerts/2/events/{first.id}").status_code == 404


@pytest.mark.usefixtures("within_an_hour")
def test_a_group_that_did_not_change_is_a_304(client: FlaskClient, alert: Alert) -> None:
    alert("one")
    tag = {"If-None-Match": client.get("/alerts/1").headers["ETag"]}
    assert client.get("/alerts/1", headers=tag).status_code == 304
    assert act(client, "ack") == 303
    assert client.get("/alerts/1", headers=tag).status_code == 200


def test_earlier_occurrences_are_linked(client: FlaskClient) -> None:
    for hours in (30, 5, 1):
        record(pending_event(minute=minutes_ago(60 * hours)))
    oldest, older, newest = (row.id for row in groups())
    page = client.get(f"/alerts/{newest}").text
    assert "Seen 3 times in 30 days" in page
    assert page.index(f'href="/alerts/{older}"') < page.index(f'href="/alerts/{oldest}"')
    assert "It came back" not in page


def test_an_occurrence_names_the_latest_one_and_those_before_it(client: FlaskClient) -> None:
    for hours in (30, 5, 3, 1):
        record(pending_event(minute=minutes_ago(60 * hours)))
    oldest, older, newer, newest = (row.id for row in groups())
    page = client.get(f"/alerts/{older}").text
    assert f'It came back: <a href="/alerts/{newest}">' in page
    assert f'href="/alerts/{oldest}"' in page
    assert f'href="/alerts/{newer}"' not in page


def test_a_long_body_is_cut_and_the_page_says_where_all_of_it_is(client: FlaskClient, alert: Alert) -> None:
    alert("one", size=200_000)
    for path in ("/alerts/1", "/alerts/1/events/1"):
        page = client.get(path)
        assert len(page.data) < 200_000
        assert "more characters; all of it: <code>GET /api/v1/events/1</code>" in page.text


def test_an_event_whose_body_is_deleted_says_so(client: FlaskClient, alert: Alert) -> None:
    alert("one")
    with session():
        AlertEvent.update(payload_json=None).execute()
    assert "no longer kept" in client.get("/alerts/1").text
