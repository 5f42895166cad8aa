"""A page that stays open shows what is new by itself, and nothing jumps."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, expect

from signalcraft.groups import saved_views
from signalcraft.storage import tenants
from signalcraft.storage.database import session
from tests.support.builders import change_group, record
from tests.support.site import WORKSPACE, Site, fill_more, one_more


@contextmanager
def refreshing(page: Page, status: int) -> Iterator[None]:
    """Let the page's clock go on until it has asked, and was answered with ``status``."""
    with page.expect_response(lambda response: response.request.resource_type == "fetch") as answered:
        page.clock.fast_forward(8_000)
    assert answered.value.status == status
    yield


def opened(site: Site, path: str) -> Page:
    """Open a page whose clock stands still: it would ask by itself five seconds later."""
    visitor = site.visit()
    now = datetime.now(UTC)
    visitor.page.clock.install(time=now)
    visitor.page.clock.pause_at(now + timedelta(seconds=60))
    return visitor.open(path)


@pytest.mark.usefixtures("within_an_hour")
def test_a_list_without_change_is_answered_with_304(site: Site) -> None:
    page = opened(site, "/alerts?q=busy")
    titles = page.locator("main .list .title").all_inner_texts()
    with refreshing(page, 304):
        assert page.locator("main .list .title").all_inner_texts() == titles
    assert page.locator("[data-new-groups]").inner_text() == ""


def test_counts_and_states_change_where_they_stand_and_new_groups_wait_behind_a_link(site: Site) -> None:
    name = "fresh"
    (group_id,) = fill_more(name)
    page = opened(site, f"/alerts?q={name}")
    row = page.locator(f"tr[data-id='{group_id}']")
    row.locator("input[name=ids]").check()
    record(one_more(group_id), one_more(group_id))
    fill_more(name)
    with refreshing(page, 200):
        expect(page.locator("[data-new-groups]")).not_to_be_empty()
    expect(row.locator(".number")).to_have_text("3")
    assert row.locator("input[name=ids]").is_checked()
    assert page.locator("tr[data-id]").count() == 1
    page.get_by_role("link", name="1 new group, show").click()
    expect(page.locator("tr[data-id]")).to_have_count(2)


def test_a_group_that_somebody_changed_shows_it_and_what_is_being_typed_stays(site: Site) -> None:
    (group_id,) = fill_more("watched")
    page = opened(site, f"/alerts/{group_id}")
    page.get_by_label("Note").fill("half a no")
    page.get_by_label("Snooze for").select_option(label="1 week")
    page.get_by_label("Assignee").fill("half a na")
    change_group(group_id, status="ack", version=2)
    with refreshing(page, 200):
        expect(page.locator("[data-live=head]")).to_contain_text("Acknowledged")
    assert page.get_by_label("Assignee").input_value() == "half a na"
    assert page.get_by_label("Note").input_value() == "half a no"
    assert page.get_by_label("Snooze for").input_value() == "1w"


def test_a_view_that_somebody_saves_shows_where_the_list_is_open(site: Site) -> None:
    page = opened(site, "/alerts?q=filler&sort=count")
    expect(page.locator("summary", has_text="Save view")).to_be_visible()
    with session():
        saved_views.save(1, "Fillers", "?q=filler&sort=count")
    with refreshing(page, 200):
        expect(page.get_by_role("link", name="Fillers")).to_have_attribute("aria-current", "page")
    expect(page.locator("summary", has_text="Delete view")).to_be_visible()


def test_a_page_whose_session_has_ended_says_so(site: Site) -> None:
    visitor = site.visit_as("leaver")
    visitor.page.clock.install()
    page = visitor.open("/alerts")
    with session():
        tenants.revoke_token(WORKSPACE, "leaver")
    site.visit_as("another")
    page.clock.fast_forward(8_000)
    page.get_by_role("link", name="Your session has ended: sign in").click()
    page.wait_for_url("**/login**")
