"""What people do on the pages, with and without JavaScript."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from signalcraft.storage.database import session
from signalcraft.storage.models import AlertGroup
from tests.support.site import HOSTILE_TEXT, Site, fill_more
from tests.support.web_client import TOKEN

with_and_without_javascript = pytest.mark.parametrize("javascript", [True, False])


def group(group_id: int) -> AlertGroup:
    with session():
        found: AlertGroup = AlertGroup.get_by_id(group_id)
    return found


@with_and_without_javascript
def test_signing_in_leads_to_the_page_that_was_asked_for_and_signing_out_ends_it(
    site: Site, *, javascript: bool
) -> None:
    visitor = site.visit(signed_in=False, javascript=javascript)
    page = visitor.open("/alerts/{busy}".format_map(site.ids))
    assert page.url.startswith(f"{site.url}/login?next=")
    page.get_by_label("API token").fill("wrong")
    visitor.press("Sign in", status=401)
    assert page.get_by_role("alert").is_visible()
    page.get_by_label("API token").fill(TOKEN)
    visitor.press("Sign in")
    assert page.url == site.url + "/alerts/{busy}".format_map(site.ids)
    visitor.press("Sign out", within="header")
    visitor.open("/alerts")
    assert page.url.startswith(f"{site.url}/login")


@with_and_without_javascript
def test_a_group_is_acknowledged_snoozed_resolved_reopened_and_assigned(site: Site, *, javascript: bool) -> None:
    (group_id,) = fill_more("one")
    visitor = site.visit(javascript=javascript)
    page = visitor.open(f"/alerts/{group_id}")
    for button, status in (("Acknowledge", "ack"), ("Snooze", "snoozed"), ("Resolve", "resolved"), ("Reopen", "open")):
        visitor.press(button)
        assert group(group_id).status == status
    page.get_by_label("Assignee").fill("ann")
    visitor.press("Assign")
    assert group(group_id).assignee_user_id == "ann"
    page.get_by_label("Runbook").fill("javascript:alert(1)")
    page.get_by_label("Runbook").evaluate("field => { field.type = 'text' }")
    visitor.press("Set", status=422)
    assert group(group_id).runbook_url is None
    page.get_by_label("Runbook").fill("https://wiki.example.com/x")
    visitor.press("Set")
    assert group(group_id).runbook_url == "https://wiki.example.com/x"


@with_and_without_javascript
def test_a_note_is_written_by_keyboard_and_stays_text_in_the_timeline(site: Site, *, javascript: bool) -> None:
    (group_id,) = fill_more("noted")
    visitor = site.visit(width=360, javascript=javascript)
    page = visitor.open(f"/alerts/{group_id}")
    page.get_by_label("Note").fill(HOSTILE_TEXT)
    with page.expect_navigation():
        page.get_by_label("Note").press("Enter")
    assert group(group_id).status == "ack"
    assert page.locator(".timeline .change .note").text_content() == f"Note: {HOSTILE_TEXT}"
    assert page.get_by_label("Note").input_value() == ""
    visitor.check_layout()


@with_and_without_javascript
def test_ticked_groups_are_changed_and_those_that_cannot_be_stay_ticked(site: Site, *, javascript: bool) -> None:
    ids = fill_more("bulk one", "bulk two", "bulk three")
    visitor = site.visit(javascript=javascript)
    page = visitor.open("/alerts?status=all&q=bulk&limit=100")
    shown = [int(value) for value in page.locator("input[name=ids]").evaluate_all("all => all.map(one => one.value)")]
    assert set(ids) <= set(shown)
    with session():
        AlertGroup.update(status="resolved", resolved_at=datetime.now(UTC), is_current=False).where(
            AlertGroup.id == ids[0]
        ).execute()
    for group_id in ids:
        page.locator(f"input[name=ids][value='{group_id}']").check()
    visitor.press("Acknowledge", status=409)
    assert [group(group_id).status for group_id in ids] == ["resolved", "ack", "ack"]
    ticked = page.locator("input[name=ids]:checked").evaluate_all("all => all.map(one => one.value)")
    assert ticked == [str(ids[0])]
    assert "1 group could not be changed" in page.get_by_role("alert").inner_text()
    visitor.press("Resolve")
    assert group(ids[0]).status == "resolved"


@with_and_without_javascript
def test_groups_are_searched_filtered_sorted_and_paged(site: Site, *, javascript: bool) -> None:
    visitor = site.visit(javascript=javascript)
    page = visitor.open("/alerts?limit=5")
    titles = page.locator(".list .title")
    first = titles.all_inner_texts()
    assert len(first) == 5
    visitor.follow(page.get_by_role("link", name="Older"))
    assert not set(titles.all_inner_texts()) & set(first)
    page.get_by_label("Search titles").fill("severity-low")
    with page.expect_navigation():
        page.get_by_label("Search titles").press("Enter")
    assert "q=severity-low" in page.url
    assert titles.all_inner_texts() == ["ValueError: severity-low failed"]
    visitor.follow(page.get_by_role("link", name="Remove the filter title has"))
    visitor.follow(page.get_by_role("link", name="Acknowledged", exact=True))
    assert titles.count()
    assert not set(titles.all_inner_texts()) & set(first)  # other tests acknowledge more than a page
    visitor.follow(page.get_by_role("link", name="All", exact=True))
    visitor.follow(page.get_by_role("link", name="Alerts", exact=True).nth(1))
    assert "sort=-count" in page.url
    assert titles.first.inner_text() == "ValueError: busy failed"


def test_a_group_that_was_superseded_is_only_among_all(site: Site) -> None:
    visitor = site.visit(javascript=False)
    for query, number in (("", 1), ("&status=all", 4)):
        page = visitor.open(f"/alerts?q=came-back{query}")
        assert page.locator(".list .title").count() == number
    page = visitor.open("/alerts/{came-back}".format_map(site.ids))
    assert "Seen 4 times in 30 days, on 4 of them." in page.locator("main").inner_text()
    assert page.locator(".earlier li").count() == 3


def test_a_snooze_until_tomorrow_ends_at_nine_where_the_browser_is(site: Site) -> None:
    (group_id,) = fill_more("tokyo")
    days = {datetime.now(ZoneInfo("Asia/Tokyo")).date()}
    visitor = site.visit(timezone_id="Asia/Tokyo")
    page = visitor.open(f"/alerts/{group_id}")
    page.get_by_label("Snooze for").select_option(label="Until tomorrow 9:00")
    visitor.press("Snooze")
    until = group(group_id).snoozed_until.astimezone(ZoneInfo("Asia/Tokyo"))
    assert (until.hour, until.minute) == (9, 0)
    days.add(datetime.now(ZoneInfo("Asia/Tokyo")).date())  # it may have become midnight there
    assert until.date() - timedelta(days=1) in days


def test_of_two_browsers_that_act_on_one_group_the_second_is_told_what_changed(site: Site) -> None:
    (group_id,) = fill_more("contested")
    ann, bob = site.visit_as("ann"), site.visit_as("bob", javascript=False)
    for visitor in (ann, bob):
        visitor.open(f"/alerts/{group_id}")
    ann.press("Acknowledge")
    bob.press("Resolve", status=412)
    assert group(group_id).status == "ack"
    says = bob.page.get_by_role("alert").inner_text()
    assert "Nothing was done" in says
    assert "Acknowledged by ann" in says
    bob.press("Resolve")
    assert group(group_id).status == "resolved"


def test_who_may_only_read_has_no_buttons(site: Site) -> None:
    visitor = site.visit_as("reader", can_write=False)
    for path in ("/alerts", "/alerts/{busy}".format_map(site.ids)):
        page = visitor.open(path)
        assert page.locator("main [name=action], main input[type=checkbox][name=ids]").count() == 0


def test_times_are_shown_where_the_browser_is_and_go_on(site: Site) -> None:
    visitor = site.visit(timezone_id="America/New_York")
    visitor.page.clock.install()
    page = visitor.open("/alerts?q=busy")
    time = page.locator(".list time:visible").first
    before = time.inner_text()
    page.clock.fast_forward("03:00:00")
    assert time.inner_text() != before
    assert "Z)" in (time.get_attribute("title") or "")
