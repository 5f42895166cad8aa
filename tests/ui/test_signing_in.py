"""Sessions: how they begin and end, what their cookie is, and which requests and forms are refused."""

import re
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient

from signalcraft.cli import sign_in as sign_in_command
from signalcraft.settings import Settings
from signalcraft.storage import tenants
from signalcraft.storage.database import session
from signalcraft.storage.models import AlertGroup, ApiToken
from signalcraft.ui import session as ui_session
from signalcraft.ui.session import Sessions
from tests.support.browser_client import ORIGIN, csrf_of, sign_in, submit, version_of
from tests.support.web_client import TOKEN, add_workspace, no_database, web

SECURE = "https://alerts.example.org"


def new_token(name: str, *, can_write: bool = True, workspace: str = "default") -> str:
    with session():
        return tenants.create_token(workspace, can_write=can_write, name=name)


def link(environ: dict[str, str], name: str = "ann", minutes: int = 10) -> str:
    settings = Settings.from_environ(environ)
    with session():
        url = urlsplit(sign_in_command.link(settings, "default", name, minutes=minutes))
    return f"{url.path}?{url.query}"


def test_a_wrong_token_gets_the_form_again_with_words(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ)
    for token in ("wrong", "", b"\xff\x00", "x" * 5_000):
        response = client.post("/login", data={"token": token}, headers={"Origin": ORIGIN})
        assert response.status_code == 401
        assert 'role="alert"' in response.text
        assert "Set-Cookie" not in response.headers


def test_wrong_tokens_count_against_the_address(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ, RATELIMIT_ADDRESS="3/minute")
    statuses = [sign_in(client, "wrong").status_code for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    limited = sign_in(client, "wrong")
    assert "Too many requests" in limited.text
    assert int(limited.headers["Retry-After"]) > 0


def test_the_cookie_is_for_this_host_over_https_alone(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ)
    response = client.post("/login", data={"token": TOKEN}, base_url=SECURE, headers={"Origin": SECURE})
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith("__Host-signalcraft=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax", "Max-Age=43200"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    plain = sign_in(web(environ)).headers["Set-Cookie"]
    assert plain.startswith("signalcraft=")
    assert "Secure" not in plain


def test_a_cookie_of_the_other_name_is_none(environ: dict[str, str]) -> None:
    """Over https a subdomain could plant the name without the prefix."""
    add_workspace()
    client = web(environ)
    value = sign_in(client).headers["Set-Cookie"].partition("=")[2].partition(";")[0]
    client = web(environ).application.test_client(use_cookies=False)
    for name, status in (("signalcraft", 303), ("__Host-signalcraft", 200)):
        response = client.get("/alerts", base_url=SECURE, headers={"Cookie": f"{name}={value}"})
        assert response.status_code == status


@pytest.mark.parametrize("cookie", ["", "x", "a.b.c", "e30.aaaa.bbbb", "\xe9"])
def test_a_cookie_that_is_not_ours_is_none(environ: dict[str, str], cookie: str) -> None:
    add_workspace()
    client = web(environ).application.test_client(use_cookies=False)
    response = client.get("/alerts", headers={"Cookie": f"signalcraft={cookie}"})
    assert (response.status_code, response.location) == (303, "/login?next=/alerts")


def test_signing_in_makes_a_new_session_whatever_the_browser_had(client: FlaskClient) -> None:
    before = client.get_cookie("signalcraft")
    assert before
    page = client.get("/alerts")
    old_token = csrf_of(page, "/logout")
    sign_in(client)
    after = client.get_cookie("signalcraft")
    assert after
    assert after.value != before.value
    response = client.post("/logout", data={"csrf": old_token}, headers={"Origin": ORIGIN})
    assert response.status_code == 403


def test_a_session_goes_on_while_it_is_used_and_ends_after_twelve_hours(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Set-Cookie" not in client.get("/alerts").headers
    monkeypatch.setattr("signalcraft.ui.auth.RENEWAL_SECONDS", -1)
    assert client.get("/alerts").headers["Set-Cookie"].startswith("signalcraft=")
    monkeypatch.setattr(ui_session, "SESSION_SECONDS", -1)
    assert client.get("/alerts").status_code == 303


@pytest.mark.usefixtures("within_an_hour")
def test_a_page_that_refreshes_itself_does_not_make_a_session_go_on(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signalcraft.ui.auth.RENEWAL_SECONDS", -1)
    tag = client.get("/alerts").headers["ETag"]
    for held in (tag, 'W/"of an older list"'):
        refresh = client.get("/alerts", headers={"If-None-Match": held, "Sec-Fetch-Mode": "cors"})
        assert "Set-Cookie" not in refresh.headers
    person = client.get("/alerts", headers={"If-None-Match": tag, "Sec-Fetch-Mode": "navigate"})
    assert (person.status_code, "Set-Cookie" in person.headers) == (304, True)


def test_signing_out_while_redis_is_unavailable_says_what_stays_valid(
    client: FlaskClient, environ: dict[str, str]
) -> None:
    other = web(environ, REDIS_URL="redis://127.0.0.1:1/0")
    other.set_cookie("signalcraft", client.get_cookie("signalcraft").value)  # type: ignore[union-attr] # it has one
    response = submit(other, "/logout", page=other.get("/alerts"))
    assert other.get_cookie("signalcraft") is None
    assert "stays valid" in other.get(response.location or "").text
    assert "stays valid" not in other.get("/login").text


def test_signing_out_ends_the_session_also_for_a_copy_of_its_cookie(client: FlaskClient) -> None:
    copied = client.get_cookie("signalcraft")
    assert copied
    response = submit(client, "/logout", page=client.get("/alerts"))
    assert (response.status_code, response.location) == (303, "/login")
    assert response.headers["Clear-Site-Data"] == '"cache"'
    assert client.get_cookie("signalcraft") is None
    client.set_cookie("signalcraft", copied.value)
    assert client.get("/alerts").status_code == 303


def test_revoking_a_token_ends_its_sessions_and_stops_its_forms_at_once(environ: dict[str, str], alert: object) -> None:
    alert("one")  # type: ignore[operator]
    client = web(environ)
    sign_in(client, new_token("ann"))
    page = client.get("/alerts/1")
    with session():
        tenants.revoke_token("default", "ann")
    refused = submit(client, "/alerts/1", page=page, data={"action": "ack", "version": version_of(page)})
    assert refused.status_code == 401
    assert "Sign in" in refused.text
    assert client.get("/alerts").location == "/login?next=/alerts"
    with session():
        assert AlertGroup.get_by_id(1).status == "open"


def test_another_token_in_the_environment_ends_the_sessions_of_the_one_before(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ)
    sign_in(client)
    cookie = client.get_cookie("signalcraft")
    assert cookie
    other = web(environ, API_TOKEN="another-token-of-the-environment")
    other.set_cookie("signalcraft", cookie.value)
    assert other.get("/alerts").status_code == 303


@pytest.mark.parametrize(
    ("wanted", "target"),
    [
        ("/alerts/7?a=b", "/alerts/7?a=b"),
        ("/system", "/system"),
        ("https://evil.example/", "/alerts"),
        ("//evil.example/", "/alerts"),
        ("/\\evil.example/", "/alerts"),
        ("//[evil.example/", "/alerts"),
        ("/\t/evil.example/", "/alerts"),
        ("\\\\evil.example", "/alerts"),
        ("javascript:alert(1)", "/alerts"),
        ("alerts", "/alerts"),
        ("", "/alerts"),
        ("/alerts\r\nX: y", "/alerts"),
    ],
)
def test_signing_in_leads_to_own_paths_only(environ: dict[str, str], wanted: str, target: str) -> None:
    add_workspace()
    assert sign_in(web(environ), next=wanted).location == target


def test_the_path_to_come_back_to_may_be_in_the_url_as_it_is_when_the_form_is_asked_for(
    environ: dict[str, str],
) -> None:
    add_workspace()
    client = web(environ)
    sign_in(client)  # the tokens are read by then
    for wanted, target in (("/system", "/system"), ("//evil.example/", "/alerts")):
        answer = client.post("/login", query_string={"next": wanted}, data={"token": TOKEN}, base_url=ORIGIN)
        assert (answer.status_code, answer.location) == (303, target)


def test_who_has_no_session_is_asked_to_sign_in_and_comes_back(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ)
    response = client.get("/alerts?q=a%26b&status=ack")
    assert response.status_code == 303
    target = parse_qs(urlsplit(response.location or "").query)["next"][0]
    assert sign_in(client, next=target).location == "/alerts?q=a%26b&status=ack"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://[evil.example"},
    ],
)
def test_no_form_of_another_site_is_taken(
    environ: dict[str, str], client: FlaskClient, headers: dict[str, str]
) -> None:
    page = client.get("/alerts")
    response = client.post("/logout", data={"csrf": csrf_of(page, "/logout")}, headers=headers)
    assert response.status_code == 403
    assert client.get("/alerts").status_code == 200
    login = web(environ).post("/login", data={"token": TOKEN}, headers=headers)
    assert login.status_code == 403
    assert "Set-Cookie" not in login.headers


def test_a_form_needs_the_token_of_its_session_and_path(client: FlaskClient, environ: dict[str, str]) -> None:
    page = client.get("/alerts")
    other = web(environ)
    sign_in(other)
    foreign = csrf_of(other.get("/alerts"), "/logout")
    for token in ("", "00", "zz", foreign, csrf_of(page, "/alerts/bulk") if "/alerts/bulk" in page.text else "ff" * 32):
        assert client.post("/logout", data={"csrf": token}, headers={"Origin": ORIGIN}).status_code == 403
    assert submit(client, "/logout", page=page).status_code == 303


def test_a_form_s_token_is_another_one_in_each_response(client: FlaskClient) -> None:
    """Responses are compressed together with what others wrote: a token that stays could be guessed by their length."""
    first, second = (csrf_of(client.get("/system"), "/logout") for _ in range(2))
    assert first != second
    assert client.post("/logout", data={"csrf": first}, headers={"Origin": ORIGIN}).status_code == 303


def test_a_link_signs_in_once_as_the_name_it_was_made_for(environ: dict[str, str], redis: object) -> None:  # noqa: ARG001 - a workspace
    client, path = web(environ), link(environ)
    assert client.head(path).status_code == 200
    response = client.get(path)
    assert (response.status_code, response.location) == (303, "/alerts")
    assert "ann" in client.get("/alerts").text
    again = web(environ).get(path)
    assert again.status_code == 401
    assert "has been used" in again.text


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_link_that_another_site_leads_to_asks_first(environ: dict[str, str], redis: object, site: str) -> None:  # noqa: ARG001 - a workspace
    """Else it could sign somebody in as another, unnoticed."""
    client, path = web(environ), link(environ)
    asked = client.get(path, headers={"Sec-Fetch-Site": site})
    assert (asked.status_code, "Set-Cookie" in asked.headers) == (200, False)
    assert "Sign in as ann" in asked.text
    form = {"link": parse_qs(urlsplit(path).query)["link"][0]}
    assert client.post("/login", data=form, headers={"Origin": "https://evil.example"}).status_code == 403
    response = client.post("/login", data=form, headers={"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"})
    assert (response.status_code, response.location) == (303, "/alerts")
    assert web(environ).get(path, headers={"Sec-Fetch-Site": "none"}).status_code == 401


def test_a_link_that_is_pasted_or_opened_from_a_terminal_signs_in_at_once(
    environ: dict[str, str],
    redis: object,  # noqa: ARG001 - a workspace
) -> None:
    assert web(environ).get(link(environ), headers={"Sec-Fetch-Site": "none"}).location == "/alerts"


def test_a_link_expires_and_cannot_be_altered(
    environ: dict[str, str],
    redis: object,  # noqa: ARG001 - a workspace
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = link(environ)
    assert web(environ).get(f"{path[:-2]}xx").status_code == 401
    assert web(environ).get("/login?link=").status_code == 401
    text = parse_qs(urlsplit(path).query)["link"][0]
    sessions = Sessions.from_secret(environ["DATABASE_URL"])
    assert sessions.read_link(text)
    later = time.time() + 601

    class Later(ui_session.datetime):
        @classmethod
        def now(cls, tz: object = None) -> ui_session.datetime:
            return ui_session.datetime.fromtimestamp(later, tz)  # type: ignore[arg-type] # UTC

    monkeypatch.setattr(ui_session, "datetime", Later)
    assert sessions.read_link(text) is None


def test_a_link_says_so_while_redis_is_unavailable_and_works_later(environ: dict[str, str], redis: object) -> None:  # noqa: ARG001 - a workspace
    path = link(environ)
    response = web(environ, REDIS_URL="redis://127.0.0.1:1/0").get(path)
    assert response.status_code == 503
    assert "Redis is unavailable" in response.text
    assert web(environ).get(path).status_code == 303


def test_pages_work_while_redis_is_unavailable(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ, REDIS_URL="redis://127.0.0.1:1/0")
    sign_in(client)
    assert client.get("/alerts").status_code == 200


def test_the_name_of_a_link_is_a_token_that_can_be_revoked(environ: dict[str, str], redis: object) -> None:  # noqa: ARG001 - a workspace
    client = web(environ)
    client.get(link(environ))
    client.get(link(environ))
    with session():
        assert [row.name for row in ApiToken.select()] == ["ann"]
        tenants.revoke_token("default", "ann")
        with pytest.raises(tenants.TenancyError, match="Use another name"):
            tenants.token_to_sign_in("default", "ann")
    other = web(environ)
    other.set_cookie("signalcraft", client.get_cookie("signalcraft").value)  # type: ignore[union-attr] # it has one
    assert other.get("/alerts").status_code == 303


def test_headers_forbid_frames_inline_code_and_other_hosts(client: FlaskClient) -> None:
    for path in ("/alerts", "/login", "/alerts/999", "/system"):
        response = client.get(path)
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\son\w+=|\sstyle=", response.text)


def test_a_page_says_in_words_that_postgresql_is_unavailable(client: FlaskClient, environ: dict[str, str]) -> None:
    fresh = web(environ)
    client.get("/alerts")
    with no_database(environ["DATABASE_URL"]):
        response = client.get("/alerts")
        assert (response.status_code, response.mimetype) == (503, "text/html")
        assert "cannot read its database" in response.text
        system = client.get("/system")
        assert system.status_code == 200
        assert "Not known while PostgreSQL is unavailable" in system.text
        assert sign_in(fresh).status_code == 503
    assert client.get("/alerts").status_code == 200
