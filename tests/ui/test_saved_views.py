"""Views of the list: who saves, sees and deletes them."""

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from signalcraft.groups import saved_views
from signalcraft.groups.saved_views import View
from signalcraft.storage import tenants
from signalcraft.storage.database import database, session
from tests.support.browser_client import ORIGIN, csrf_of, sign_in, submit
from tests.support.web_client import add_workspace, web

FILTERED = "?severity_min=high&environment=prod"
#: FILTERED as a view has it.
SORTED = "?environment=prod&severity_min=high"


def views(workspace_id: int = 1) -> list[View]:
    with session():
        return saved_views.views(workspace_id)


def links(client: FlaskClient, query: str = "") -> dict[str, str]:
    """Return the views on the page by name, and where they lead to; that of the page itself has an asterisk."""
    page = client.get(f"/alerts{query}").text
    found = re.findall(r'<a href="([^"]*)" title="[^"]*"( aria-current="page")?>([^<]*)</a>', _nav(page))
    return {html.unescape(name) + "*" * bool(current): html.unescape(path) for path, current, name in found}


def _nav(page: str) -> str:
    return page.partition('aria-label="Saved views"')[2].partition("</nav>")[0]


def save(client: FlaskClient, name: str, query: str = FILTERED) -> Any:  # noqa: ANN401 - a response
    return submit(client, "/views", page=client.get("/alerts?q=unsaved"), data={"name": name, "back": query})


def signed_in(environ: dict[str, str], name: str, *, workspace: str = "default", can_write: bool = True) -> FlaskClient:
    with session():
        token = tenants.create_token(workspace, can_write=can_write, name=name)
    client = web(environ)
    sign_in(client, token)
    return client


def test_a_list_that_nobody_filtered_offers_nothing_to_save(client: FlaskClient) -> None:
    for query in ("", "?status=ack", "?sort=-count", "?limit=10"):
        page = client.get(f"/alerts{query}").text
        assert "Saved views" not in page
        assert "/views" not in page
    assert 'action="/views"' in client.get(f"/alerts{FILTERED}").text


def test_a_saved_view_is_a_link_for_everyone_in_the_workspace_until_somebody_deletes_it(
    client: FlaskClient, environ: dict[str, str]
) -> None:
    colleague = signed_in(environ, "ann")
    response = save(client, "  Severe   in production ")
    assert (response.status_code, response.location) == (303, f"/alerts{SORTED}&done=save-view")
    saved = client.get(response.location).text
    assert "View saved." in saved
    assert "<title>Severe in production" in saved
    assert links(colleague) == {"Severe in production": f"/alerts{SORTED}"}
    assert links(colleague, f"{FILTERED}&limit=10") == {"Severe in production*": f"/alerts{SORTED}"}
    page = colleague.get(f"/alerts{FILTERED}")
    assert 'action="/views"' not in page.text
    response = submit(colleague, "/views/1/delete", page=page, data={"back": FILTERED})
    assert "View deleted." in colleague.get(response.location).text
    assert links(client) == {}


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("?status=all&q=a%26b&sort=-count", "?q=a%26b&sort=-count&status=all"),
        ("?project=b&project=!a", "?project=%21a&project=b"),
        ("?q=x&limit=5&total=estimate&done=ack-1&project=", "?q=x"),
        ("", ""),
    ],
)
def test_a_view_keeps_the_filters_and_the_order_of_a_list_and_no_page_of_it(
    client: FlaskClient, query: str, kept: str
) -> None:
    assert save(client, "view", query).status_code == 303
    assert [view.query for view in views()] == [kept]
    assert client.get(f"/alerts{kept}").status_code == 200


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("?severity=huge", "severity"),
        ("?no_such_filter=1", "no_such_filter"),
        ("?sort=title", "sort"),
        ("?since=yesterday", "since"),
        ("?q=a&q=b", "q"),
        ("?project=a%00b", "project"),
        ("?<script>=1", "&lt;script&gt;"),
    ],
)
def test_a_parameter_that_the_list_does_not_take_is_named_and_no_view_is_saved(
    client: FlaskClient, query: str, named: str
) -> None:
    response = save(client, "view", query)
    assert response.status_code == 422
    assert f"<code>{named}</code>" in response.text
    assert views() == []


@pytest.mark.parametrize(
    ("name", "query", "status", "words"),
    [
        ("", "", 422, "A name has 1 to 60 characters"),
        (" \t ", "", 422, "A name has 1 to 60 characters"),
        ("x" * 61, "", 422, "A name has 1 to 60 characters"),
        ("a\x00b", "", 422, "none of them a control character"),
        ("long", "?q=x" + 14 * ("&project=" + "z" * 150), 422, "at most 2000 characters"),
        ("taken", "?q=other", 409, "There is a view of this name"),
    ],
)
def test_a_view_that_is_refused_is_said_to_be_on_the_list_and_its_name_stays(
    client: FlaskClient, name: str, query: str, status: int, words: str
) -> None:
    with session():
        saved_views.save(1, "taken", "?q=taken")
    response = save(client, name, query or FILTERED)
    assert response.status_code == status
    assert "The view was not saved." in response.text
    assert words in response.text
    assert f'value="{name.strip()}"' in response.text or not name.isprintable()
    assert [view.name for view in views()] == ["taken"]


def test_a_view_that_is_saved_twice_is_there_once(client: FlaskClient) -> None:
    assert [save(client, "view").status_code for _ in range(2)] == [303, 303]
    assert len(views()) == 1


def test_another_workspace_neither_sees_a_view_nor_deletes_it(client: FlaskClient, environ: dict[str, str]) -> None:
    save(client, "ours")
    add_workspace("other")
    stranger = signed_in(environ, "eve", workspace="other")
    assert links(stranger, FILTERED) == {}
    assert save(stranger, "ours").status_code == 303
    assert [len(views(workspace_id)) for workspace_id in (1, 2)] == [1, 1]
    for view_id in ("1", "99", "0", "x", "1e3", "9" * 30):
        assert forged(stranger, f"/views/{view_id}/delete") == 404
    assert [view.name for view in views()] == ["ours"]


def forged(client: FlaskClient, path: str, **data: str) -> int:
    """Send a form that no page has, with the token that it would have; return the status."""
    sessions = client.application.extensions["signalcraft.ui"].sessions
    cookie = client.get_cookie("signalcraft")
    assert cookie
    own, _ = sessions.read(cookie.decoded_value)
    data["csrf"] = sessions.form_token(own, path)
    return client.post(path, data=data, headers={"Origin": ORIGIN}).status_code


def test_who_may_only_read_opens_views_and_neither_saves_nor_deletes_one(
    client: FlaskClient, environ: dict[str, str]
) -> None:
    save(client, "ours")
    reader = signed_in(environ, "reader", can_write=False)
    assert links(reader) == {"ours": f"/alerts{SORTED}"}
    for query in (FILTERED, "?q=another"):
        assert "/views" not in reader.get(f"/alerts{query}").text
    assert forged(reader, "/views", name="theirs", back=FILTERED) == 403
    assert forged(reader, "/views/1/delete") == 403
    assert [view.name for view in views()] == ["ours"]


@pytest.mark.parametrize("path", ["/views", "/views/1/delete"])
def test_a_form_about_views_is_refused_unless_it_is_from_a_page_of_this_session(
    client: FlaskClient, environ: dict[str, str], path: str
) -> None:
    save(client, "ours")
    page, data = client.get(f"/alerts{FILTERED}"), {"name": "theirs", "back": "?q=x"}
    data["csrf"] = csrf_of(page if path != "/views" else client.get("/alerts?q=x"), path)
    for headers in ({"Origin": "https://evil.example"}, {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}):
        assert client.post(path, data=data, headers=headers).status_code == 403
    other_form = data | {"csrf": csrf_of(page, "/logout")}
    assert client.post(path, data=other_form, headers={"Origin": ORIGIN}).status_code == 403
    assert signed_in(environ, "ann").post(path, data=data, headers={"Origin": ORIGIN}).status_code == 403
    response = web(environ).post(path, data=data, headers={"Origin": ORIGIN})
    assert response.status_code == 401
    assert 'href="/login?next=/alerts"' in response.text
    assert [view.name for view in views()] == ["ours"]


@pytest.mark.usefixtures("within_an_hour")
def test_a_list_is_sent_again_when_a_view_is_saved_or_deleted(client: FlaskClient) -> None:
    def status(tag: str) -> tuple[int, str]:
        response = client.get("/alerts", headers={"If-None-Match": tag})
        return response.status_code, response.headers["ETag"]

    _, without = status("")
    save(client, "view")
    code, with_view = status(without)
    assert (code, status(with_view)[0]) == (200, 304)
    with session():
        saved_views.delete(1, 1)
    assert status(with_view) == (200, without)


def test_views_cost_a_list_one_query_however_many_there_are(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: list[str] = []
    execute: Callable[..., Any] = database.execute_sql

    def note(sql: str, *rest: object) -> Any:  # noqa: ANN401 - a cursor
        executed.append(sql)
        return execute(sql, *rest)

    monkeypatch.setattr(database, "execute_sql", note)
    for number in range(3):
        executed.clear()
        client.get("/alerts")
        assert sum("saved_view" in sql for sql in executed) == 1
        with session():
            saved_views.save(1, f"view {number}", f"?q={number}")


@pytest.mark.parametrize(
    ("name", "shown"), [("ann", "ann"), ("a&b <i>", "a&amp;b &lt;i&gt;"), ("none", ""), ("!ann", ""), ("a" * 201, "")]
)
def test_who_is_signed_in_finds_the_groups_that_are_assigned_to_that_name(
    client: FlaskClient, environ: dict[str, str], name: str, shown: str
) -> None:
    assert "Assigned to" not in client.get("/alerts").text  # API_TOKEN names no person
    page = signed_in(environ, name).get("/alerts?assignee=bob&q=x").text
    found = re.findall(r'<a href="(/alerts[^"]*)">Assigned to ([^<]*)</a>', page)
    assert [words for _, words in found] == [shown] * bool(shown)
    for path, _ in found:
        chips = client.get(html.unescape(path)).text.partition('class="chips"')[2].partition("</ul>")[0]
        assert f"assignee: <b>{shown}</b>" in chips
        assert "bob" not in chips
