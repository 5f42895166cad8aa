"""Nothing that a sender, a stranger or another site says does more than stand there."""

from urllib.parse import quote

import pytest

from signalcraft.storage import tenants
from signalcraft.storage.database import session
from signalcraft.storage.models import AlertGroup
from tests.support.http_server import answer, serving
from tests.support.site import HOSTILE_TEXT, WORKSPACE, Site, fill_more
from tests.support.waiting import wait_until

#: A browser shows runs of white space as one.
SHOWN = " ".join(HOSTILE_TEXT.split())


def state(group_id: int) -> tuple[str, int]:
    with session():
        group = AlertGroup.get_by_id(group_id)
    return group.status, group.version


@pytest.mark.parametrize("javascript", [True, False])
@pytest.mark.parametrize(
    "path", ["/alerts?q=evil.example", "/alerts/{hostile}", "/alerts/{hostile}/events/{event}", "/system"]
)
def test_the_text_of_senders_stays_text(site: Site, path: str, *, javascript: bool) -> None:
    visitor = site.visit(javascript=javascript)
    page = visitor.open("/alerts/{hostile}".format_map(site.ids))
    event = page.locator("a[href*='/events/']").first.get_attribute("href") or ""
    page = visitor.open(path.format_map(site.ids | {"event": event.rpartition("/")[2]}))
    for summary in page.locator("main details.raw summary").all():
        summary.click()
    assert SHOWN[:60] in " ".join((page.locator("main").text_content() or "").split())
    assert page.locator("main script, main img, main iframe, main [onload], main [onerror]").count() == 0
    links = page.locator("a[href]").evaluate_all("all => all.map(one => one.href)")
    assert {link.partition("://")[0] for link in links} <= {"http", "https"}
    assert {link for link in links if not link.startswith(site.url)} == set()


@pytest.mark.parametrize("name", ["q", "project", "status", "cursor", "done", "sort", "no-such-parameter"])
def test_the_text_of_an_address_stays_text(site: Site, name: str) -> None:
    visitor = site.visit()
    visitor.allowed |= {400, 422}
    for text in ("<img src=x onerror=alert(1)>", HOSTILE_TEXT):
        visitor.page.goto(f"{site.url}/alerts?{name}={quote(text)}")
        assert visitor.page.locator("main script, main img, main [onload], main [onerror]").count() == 0


def test_a_session_ends_when_its_token_is_revoked_and_its_forms_do_nothing(site: Site) -> None:
    (group_id,) = fill_more("revoked")
    visitor = site.visit_as("revoked")
    visitor.open(f"/alerts/{group_id}")
    with session():
        tenants.revoke_token(WORKSPACE, "revoked")
    visitor.press("Resolve", status=401)
    assert "Your session has ended" in visitor.page.locator("main").inner_text()
    assert state(group_id) == ("open", 1)
    page = visitor.open("/alerts")
    assert page.url.startswith(f"{site.url}/login")


def test_a_form_of_another_site_changes_nothing(site: Site) -> None:
    """The other site is on the same host, so that the browser sends the session's cookie along."""
    (group_id,) = fill_more("forged")
    visitor = site.visit()
    visitor.allowed |= {403}
    form = f"<form method=post action='{site.url}/alerts/{group_id}'><input name=version value=1>"
    button = "<button name=action value=resolve>Go</button></form>"
    with serving(answer(200, form + button, content_type="text/html")) as stranger:
        visitor.page.goto(stranger.url)
        with visitor.page.expect_navigation() as navigation:
            visitor.page.get_by_role("button").click()
    assert navigation.value.status == 403
    assert state(group_id) == ("open", 1)


def test_a_page_shows_in_no_frame(site: Site) -> None:
    visitor = site.visit()
    frame = f"<iframe src='{site.url}/alerts'></iframe>"
    with serving(answer(200, frame, content_type="text/html")) as stranger:
        with (
            visitor.page.expect_console_message(lambda message: "frame" in message.text),
            visitor.page.expect_response(f"{site.url}/alerts") as framed,
        ):
            visitor.page.goto(stranger.url)
        assert framed.value.status == 200
        wait_until(lambda: len(visitor.page.frames) == 2)
        assert all(shown.locator(".list").count() == 0 for shown in visitor.page.frames)
    assert any("frame" in problem for problem in visitor.problems)
    visitor.problems.clear()


@pytest.mark.parametrize(
    "target", ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_signing_in_leads_to_no_other_site(site: Site, target: str) -> None:
    visitor = site.visit(signed_in=False)
    page = visitor.open(f"/login?next={target}")
    page.get_by_label("API token").fill("test-api-token")
    visitor.press("Sign in")
    assert page.url == f"{site.url}/alerts"
