"""The list of groups: what it shows, and what its forms do."""

import html
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient

from signalcraft.domain.alerts import GroupStatus
from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.groups.user_updates import GroupUpdate, update_group
from signalcraft.storage import tenants
from signalcraft.storage.database import session
from signalcraft.storage.models import AlertGroup
from signalcraft.ui import assets
from tests.support.browser_client import ORIGIN, csrf_of, sign_in, submit
from tests.support.builders import minutes_ago, pending_event, record
from tests.support.web_client import add_workspace, web

Alert = Callable[..., None]


def titles(client: FlaskClient, query: str = "") -> list[str]:
    page = client.get(f"/alerts{query}")
    assert page.status_code == 200, page.text
    return [html.unescape(title) for title in re.findall(r'class="title"[^>]*>([^<]*)<', page.text)]


def status_of(group_id: int) -> str:
    with session():
        return str(AlertGroup.get_by_id(group_id).status)


def set_status(group_id: int, status: GroupStatus) -> None:
    with session():
        update_group(1, group_id, GroupUpdate(fields={"status": status}, by="test", at=datetime.now(UTC)))


def test_the_root_leads_to_the_list(client: FlaskClient) -> None:
    response = client.get("/")
    assert (response.status_code, response.location) == (303, "/alerts")


def test_each_tab_shows_the_groups_of_its_status(client: FlaskClient, alert: Alert) -> None:
    alert("open", "acked", "snoozed", "resolved")
    with session():
        ids = {row.title: row.id for row in AlertGroup.select()}
    for title, status in zip(("acked", "resolved", "snoozed"), list(GroupStatus)[1:], strict=True):
        set_status(ids[title], status)
    for query, shown in {
        "": ["open"],
        "?status=open": ["open"],
        "?status=ack": ["acked"],
        "?status=snoozed": ["snoozed"],
        "?status=resolved": ["resolved"],
    }.items():
        assert titles(client, query) == shown
    assert sorted(titles(client, "?status=all")) == ["acked", "open", "resolved", "snoozed"]


def test_a_superseded_group_is_not_among_the_open_ones(client: FlaskClient) -> None:
    for hours in (5, 1):
        record(pending_event(title=f"{hours} h ago", minute=minutes_ago(60 * hours)))
    assert titles(client) == ["1 h ago"]
    assert titles(client, "?current=false") == ["5 h ago"]
    assert titles(client, "?status=all") == ["1 h ago", "5 h ago"]


def test_the_api_s_filters_are_the_list_s(client: FlaskClient, alert: Alert) -> None:
    alert("one", project="shop", level="fatal")
    alert("two", project="search", environment="staging")
    for query, shown in {
        "?project=shop": ["one"],
        "?environment=stage": ["two"],
        "?severity=critical": ["one"],
        "?severity_min=high&q=tw": ["two"],
        "?project=!shop": ["two"],
        "?assignee=none&sort=first_seen": ["one", "two"],
        "?project=&q=": ["two", "one"],
    }.items():
        assert titles(client, query) == shown, query
    page = client.get("/alerts?project=shop&severity=critical")
    assert 'aria-label="Remove the filter project: shop"' in page.text
    assert 'href="/alerts?severity=critical"' in page.text


def test_the_form_of_filters_keeps_what_it_cannot_show(client: FlaskClient) -> None:
    page = client.get("/alerts?project=a&project=b&environment=prod&severity=!low&sort=-count").text
    form = page[page.index('class="filters"') : page.index("</form>", page.index('class="filters"'))]
    kept = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)
    assert kept == [("project", "a"), ("project", "b"), ("severity", "!low"), ("sort", "-count")]
    assert 'name="environment" value="prod"' in form
    assert 'name="project" value=""' in form


@pytest.mark.parametrize(
    "query", ["?severity=huge", "?sort=title", "?unknown=1", "?limit=0", "?q=a&q=b", "?since=yesterday", "?cursor=x"]
)
def test_a_wrong_filter_is_named_on_a_page(client: FlaskClient, query: str) -> None:
    response = client.get(f"/alerts{query}")
    assert response.status_code in (400, 422)
    assert response.mimetype == "text/html"


def test_pages_follow_each_other_by_cursor(client: FlaskClient, alert: Alert) -> None:
    alert(*(f"title {number}" for number in range(5)))
    found, query = [], "?limit=2&sort=-count"
    while query:
        page = client.get(f"/alerts{query}")
        found += titles(client, query)
        following = re.search(r'rel="next" href="/alerts([^"]*)"', page.text)
        query = html.unescape(following.group(1)) if following else ""
    assert sorted(found) == [f"title {number}" for number in range(5)]


@pytest.mark.usefixtures("within_an_hour")
def test_a_list_that_did_not_change_is_a_304(client: FlaskClient, alert: Alert) -> None:
    alert("one")
    first = client.get("/alerts")
    tag = {"If-None-Match": first.headers["ETag"]}
    same = client.get("/alerts", headers=tag)
    assert (same.status_code, same.data) == (304, b"")
    assert same.headers["ETag"] == first.headers["ETag"]
    assert client.get("/alerts?status=all", headers=tag).status_code == 200
    alert("one")
    changed = client.get("/alerts", headers=tag)
    assert changed.status_code == 200
    set_status(1, GroupStatus.ACK)
    assert client.get("/alerts", headers={"If-None-Match": changed.headers["ETag"]}).status_code == 200


def test_ticked_groups_are_changed_and_the_list_says_so(client: FlaskClient, alert: Alert) -> None:
    alert("one", "two", "three")
    page = client.get("/alerts?q=t")
    response = submit(client, "/alerts/bulk", page=page, data={"action": "ack", "ids": ["2", "3"], "back": "?q=t"})
    assert (response.status_code, response.location) == (303, "/alerts?q=t&done=ack-2")
    assert [status_of(number) for number in (1, 2, 3)] == ["open", "ack", "ack"]
    assert "2 groups acknowledged." in client.get(response.location).text
    assert client.get("/alerts?done=%3Cb%3E-1").text.count("&lt;b&gt;") == 0


def test_a_list_to_go_back_to_that_is_none_is_refused_before_anything_is_changed(
    client: FlaskClient, alert: Alert
) -> None:
    alert("one")
    page = client.get("/alerts")
    for back in ("?severity=nonsense", "?cursor=made-up"):
        data = {"action": "ack", "ids": "1", "back": back}
        assert submit(client, "/alerts/bulk", page=page, data=data).status_code in (400, 422)
    assert status_of(1) == "open"


def test_what_is_done_is_said_to_be_done_although_the_list_cannot_be_read(
    client: FlaskClient, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    alert("one")
    page = client.get("/alerts")

    def unavailable(*_: object, **__: object) -> None:
        raise DatabaseUnavailable

    with monkeypatch.context() as patched:
        patched.setattr("signalcraft.ui.alert_list.read", unavailable)
        data = {"action": "ack", "ids": ["1", "999"], "back": "?q=one"}
        response = submit(client, "/alerts/bulk", page=page, data=data)
    assert (response.status_code, response.location) == (303, "/alerts?q=one&done=ack-1")
    assert status_of(1) == "ack"


def test_a_form_that_failed_leads_back_to_the_list(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: object, **__: object) -> None:
        raise DatabaseUnavailable

    record(pending_event(title="one", minute=minutes_ago(1)))
    page = client.get("/alerts?q=one")
    monkeypatch.setattr("signalcraft.groups.user_updates.update_groups", unavailable)
    monkeypatch.setattr("signalcraft.groups.saved_views.save", unavailable)
    for path, data in (("/alerts/bulk", {"action": "ack", "ids": "1"}), ("/views", {"name": "one", "back": "?q=one"})):
        response = submit(client, path, page=page, data=data)
        assert response.status_code == 503
        assert '<a class="button" href="/alerts">Try again</a>' in response.text


def test_what_cannot_be_done_is_said_and_stays_ticked(client: FlaskClient, alert: Alert) -> None:
    alert("one", "two")
    page = client.get("/alerts")
    set_status(1, GroupStatus.RESOLVED)
    data = {"action": "snooze", "until": "4h", "ids": ["1", "2", "77"], "back": "?status=all"}
    response = submit(client, "/alerts/bulk", page=page, data=data)
    assert response.status_code == 409
    assert "2 groups could not be changed" in response.text
    assert "A resolved group cannot be snoozed" in response.text
    assert "#77: There is nothing here under that id." in response.text
    assert re.findall(r'name="ids" value="(\d+)" checked', response.text) == ["1"]
    assert (status_of(1), status_of(2)) == ("resolved", "snoozed")


@pytest.mark.parametrize(
    "data",
    [
        {"action": "ack"},
        {"action": "ack", "ids": "x"},
        {"action": "ack", "ids": "9" * 5_000},
        {"action": "drop", "ids": "1"},
        {"action": "snooze", "ids": "1", "until": "never"},
        {"action": "assign", "ids": "1", "assignee": "a" * 300},
        {"ids": "1"},
    ],
)
def test_a_form_that_says_no_such_thing_changes_nothing(
    client: FlaskClient, alert: Alert, data: dict[str, str]
) -> None:
    alert("one")
    response = submit(client, "/alerts/bulk", page=client.get("/alerts"), data=data)
    assert (response.status_code, response.mimetype) == (422, "text/html")
    assert status_of(1) == "open"


def test_another_workspace_s_groups_are_not_there(environ: dict[str, str], alert: Alert) -> None:
    alert("one")
    add_workspace("other")
    with session():
        token = tenants.create_token("other", can_write=True, name="ann")
    other = web(environ)
    sign_in(other, token)
    assert titles(other, "?status=all") == []
    for path in ("/alerts/1", "/alerts/1/events/1"):
        assert other.get(path).status_code == 404
    csrf = other.application.extensions["signalcraft.ui"].sessions
    cookie = other.get_cookie("signalcraft")
    assert cookie
    own, _ = csrf.read(cookie.decoded_value)
    for path, data in (("/alerts/bulk", {"ids": "1"}), ("/alerts/1", {"version": "1"})):
        data |= {"action": "resolve", "csrf": csrf.form_token(own, path)}
        assert other.post(path, data=data, headers={"Origin": ORIGIN}).status_code in (404, 409)
    assert status_of(1) == "open"


def test_who_may_only_read_sees_no_buttons_and_changes_nothing(environ: dict[str, str], alert: Alert) -> None:
    alert("one")
    with session():
        token = tenants.create_token("default", can_write=False, name="reader")
    reader = web(environ)
    sign_in(reader, token)
    for path in ("/alerts", "/alerts/1"):
        page = reader.get(path).text
        assert "read only" in page
        assert 'name="action"' not in page
    sessions = reader.application.extensions["signalcraft.ui"].sessions
    cookie = reader.get_cookie("signalcraft")
    assert cookie
    own, _ = sessions.read(cookie.decoded_value)
    for path in ("/alerts/bulk", "/alerts/1"):
        data = {"action": "ack", "ids": "1", "version": "1", "csrf": sessions.form_token(own, path)}
        response = reader.post(path, data=data, headers={"Origin": ORIGIN})
        assert response.status_code == 403
        assert "may read only" in response.text
    assert status_of(1) == "open"


def test_files_are_kept_for_good_under_the_name_of_their_content(client: FlaskClient) -> None:
    page = client.get("/alerts").text
    paths = re.findall(r'(?:href|src)="(/assets/[^"]+)"', page)
    assert len(paths) == 3
    size = 0
    for path in paths:
        response = client.get(path)
        assert "immutable" in response.headers["Cache-Control"]
        assert "Set-Cookie" not in response.headers
        size += len(response.data)
    assert size < 40_000
    assert client.get("/assets/app.000000000000.css").status_code == 404
    assert client.get(assets.asset_url("app.css") + "/../x").status_code == 404
    assert csrf_of(client.get("/alerts"), "/logout")


def test_a_page_has_at_most_a_hundred_groups_and_200_kilobytes(client: FlaskClient) -> None:
    record(*(pending_event(issue=str(number), minute=minutes_ago(1)) for number in range(103)))
    page = client.get("/alerts?limit=200")
    assert len(re.findall(r"<tr data-id", page.text)) == 100
    assert 'rel="next"' in page.text
    assert len(page.data) < 200_000
