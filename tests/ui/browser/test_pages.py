"""Each page with and without JavaScript, narrow and wide, light and dark."""

import pytest

from tests.support.browsing import MAX_PAGE_BYTES, Visitor
from tests.support.site import Site

#: Path, status and heading; ``{busy}`` is the id of that group.
PAGES = {
    "sign-in": ("/login", 200, "Sign in"),
    "list": ("/alerts", 200, "Alerts"),
    "filtered list": ("/alerts?q=severity&severity_min=high&environment=prod", 200, "Alerts"),
    "empty list": ("/alerts?q=no+such+title", 200, "Alerts"),
    "group": ("/alerts/{busy}", 200, "ValueError: busy failed"),
    "group that came back": ("/alerts/{came-back}", 200, "ValueError: came-back failed"),
    "hostile group": ("/alerts/{hostile}", 200, ""),
    "event": ("/alerts/{busy}/events/{busy-event}", 200, ""),
    "system": ("/system", 200, "System"),
    "no such page": ("/alerts/999999", 404, ""),
}


def show(site: Site, name: str, **options: object) -> Visitor:
    visitor = site.visit(signed_in=name != "sign-in", **options)
    path, status, heading = PAGES[name]
    page = visitor.open(path.format_map(site.ids), status)
    assert page.title().endswith("SignalCraft")
    assert heading in (page.locator("h1").first.text_content() or "")
    assert len(page.content().encode()) < MAX_PAGE_BYTES
    return visitor


@pytest.mark.parametrize(("width", "scheme", "other"), [(360, "light", "dark"), (1280, "dark", "light")])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_the_window_and_is_accessible_in_light_and_dark(
    site: Site, name: str, width: int, scheme: str, other: str
) -> None:
    visitor = show(site, name, width=width, color_scheme=scheme)
    visitor.check_layout()
    visitor.check_accessibility()
    visitor.page.emulate_media(color_scheme=other)
    visitor.check_accessibility(rules=["color-contrast"])


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_the_same_without_javascript(site: Site, name: str) -> None:
    visitor = show(site, name, width=360, javascript=False)
    visitor.check_layout()
    visitor.page.set_viewport_size({"width": 1280, "height": 800})
    visitor.check_layout()


@pytest.mark.parametrize("name", ["Filter", "More"])
def test_on_a_phone_a_menu_is_a_sheet_as_wide_as_the_window(site: Site, name: str) -> None:
    page = show(site, "list", width=360).page
    page.locator("summary", has_text=name).click()
    box = page.locator("details[open] .panel").bounding_box()
    assert box is not None
    assert (box["x"], box["width"]) == (12, 336)
