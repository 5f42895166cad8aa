"""The pages by keyboard alone: with the keys of the script, and with Tab and Enter where there is none."""

import pytest
from playwright.sync_api import Page, expect

from signalcraft.storage.database import session
from signalcraft.storage.models import AlertGroup
from tests.support.browsing import Visitor
from tests.support.site import Site, fill_more
from tests.support.web_client import TOKEN


def status(group_id: int) -> str:
    with session():
        return str(AlertGroup.get_by_id(group_id).status)


def focused(page: Page) -> str:
    """Return the visible or accessible name of what has the focus."""
    name: str = page.evaluate(
        "(one => one.labels?.[0]?.innerText || one.getAttribute('aria-label') || one.innerText || one.id)"
        "(document.activeElement)"
    )
    return " ".join(name.split())


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the focus is on ``name``; each place on the way shows that it has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            continue
        outlined = page.evaluate("getComputedStyle(document.activeElement).outlineStyle !== 'none'")
        assert outlined, f"{focused(page)} does not show that it has the focus"
        if focused(page).startswith(name):
            return
    pytest.fail(f"Tab does not lead to {name}")


def list_of(site: Site, *names: str) -> tuple[Visitor, list[int]]:
    """Open a list of just these new groups, the first on top."""
    ids = fill_more(*reversed(names))[::-1]
    visitor = site.visit()
    visitor.open(f"/alerts?q={names[0][:4]}")
    shown = visitor.page.locator("tr[data-id]").evaluate_all("all => all.map(row => Number(row.dataset.id))")
    return visitor, [group_id for group_id in shown if group_id in ids]


@pytest.mark.parametrize("javascript", [True, False])
def test_tab_and_enter_are_enough_to_sign_in_and_acknowledge_a_group(site: Site, *, javascript: bool) -> None:
    (group_id,) = fill_more("tabs")
    visitor = site.visit(signed_in=False, javascript=javascript)
    page = visitor.open("/login")
    expect(page.get_by_label("API token")).to_be_focused()  # Chromium focuses it a moment after the page is there
    page.keyboard.type(TOKEN)
    with page.expect_navigation():
        page.keyboard.press("Enter")
    page = visitor.open("/alerts?q=tabs")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    tab_to(page, "ValueError: tabs")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    tab_to(page, "Acknowledge")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert status(group_id) == "ack"


@pytest.mark.parametrize("javascript", [True, False])
def test_tab_and_enter_are_enough_to_save_open_and_delete_a_view(site: Site, *, javascript: bool) -> None:
    name = f"<b>Low & {javascript}"
    visitor = site.visit(javascript=javascript, width=360)
    page = visitor.open("/alerts?q=severity-low")
    view = page.get_by_role("link", name=name, exact=True)
    tab_to(page, "Save view")
    page.keyboard.press("Enter")
    tab_to(page, "Name")
    page.keyboard.type(name)
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(page.locator(".notice.good")).to_have_text("View saved.")
    visitor.open("/alerts")
    assert view.get_attribute("aria-current") is None
    tab_to(page, name)
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert view.get_attribute("aria-current") == "page"
    assert page.locator(".list .title").all_inner_texts() == ["ValueError: severity-low failed"]
    tab_to(page, "Delete view")
    page.keyboard.press("Enter")
    tab_to(page, "Delete")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(page.locator(".notice.good")).to_have_text("View deleted.")
    assert view.count() == 0


def test_j_and_k_move_x_ticks_and_a_acknowledges_what_is_ticked(site: Site) -> None:
    visitor, ids = list_of(site, "keys one", "keys two", "keys three")
    page = visitor.page
    for keys, row in (("j", 0), ("j", 1), ("j", 2), ("j", 2), ("k", 1)):
        page.keyboard.press(keys)
        assert focused(page) == page.locator(".list .title").nth(row).inner_text()
    page.keyboard.press("x")
    page.keyboard.press("k")
    page.keyboard.press("x")
    assert page.locator("[data-ticked]").inner_text() == "2 ticked"
    with page.expect_navigation():
        page.keyboard.press("a")
    assert [status(group_id) for group_id in ids] == ["ack", "ack", "open"]
    assert page.locator(".notice.good").inner_text() == "2 groups acknowledged."


def test_r_resolves_the_group_that_has_the_focus_and_o_opens_it(site: Site) -> None:
    visitor, ids = list_of(site, "rest one", "rest two")
    page = visitor.page
    page.keyboard.press("j")
    with page.expect_navigation():
        page.keyboard.press("r")
    assert [status(group_id) for group_id in ids] == ["resolved", "open"]
    page.keyboard.press("j")
    with page.expect_navigation():
        page.keyboard.press("o")
    assert page.url == f"{site.url}/alerts/{ids[1]}"
    with page.expect_navigation():
        page.keyboard.press("r")
    assert status(ids[1]) == "resolved"
    page.keyboard.press("g")
    with page.expect_navigation():
        page.keyboard.press("o")
    assert page.url == f"{site.url}/alerts"


def test_keys_do_nothing_while_somebody_types_nor_when_they_are_off(site: Site) -> None:
    visitor, ids = list_of(site, "type one")
    page = visitor.page
    page.keyboard.press("/")
    page.keyboard.type("jxar?")
    assert page.get_by_label("Search titles").input_value() == "jxar?"
    assert page.locator("input[name=ids]:checked").count() == 0
    page.keyboard.press("Tab")
    page.keyboard.press("?")
    assert page.get_by_role("dialog").is_visible()
    page.get_by_label("Shortcuts are on").uncheck()
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0
    for _ in range(2):
        for key in "jxa?":
            page.keyboard.press(key)
        assert page.get_by_role("dialog").count() == page.locator("input[name=ids]:checked").count() == 0
        page.reload()
    assert status(ids[0]) == "open"
