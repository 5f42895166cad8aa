"""A real browser on a running web server. What a page must never do fails the test that opened it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Response, expect

#: WCAG 2.2 AA, and what axe recommends besides.
_TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
_AXE = Axe()
MAX_PAGE_BYTES = 200_000
expect.set_options(timeout=30_000)  # as Playwright waits for all else; a busy machine may need seconds
#: Chromium writes this for each answer that is no success; a test says which status it wants.
_FAILED_LOAD = "Failed to load resource: the server responded with a status of"
_WATCH = """
    window.violations = []; window.shift = 0;
    addEventListener('securitypolicyviolation', (one) => violations.push(`${one.violatedDirective} ${one.blockedURI}`));
    new PerformanceObserver((list) => {
      for (const one of list.getEntries()) if (!one.hadRecentInput) shift += one.value;
    }).observe({ type: 'layout-shift', buffered: true });"""


@dataclass
class Visitor:
    """One browser profile, signed in or not; ``problems`` are what its pages did wrong."""

    context: BrowserContext
    url: str
    javascript: bool = True
    problems: list[str] = field(default_factory=list)
    allowed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.javascript:
            self.context.add_init_script(_WATCH)
        self.context.on("page", self._watch)
        self.page = self.context.new_page()

    def _watch(self, page: Page) -> None:
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        page.on("dialog", lambda dialog: (self.problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _note(self, message: ConsoleMessage) -> None:
        is_allowed = any(message.text.startswith(f"{_FAILED_LOAD} {status}") for status in self.allowed)
        if message.type in ("error", "warning") and not is_allowed:
            self.problems.append(f"console: {message.text}")

    def open(self, path: str, status: int = 200) -> Page:
        """Open a page, and expect its status."""
        self.allowed |= {status} - {200}
        response = self.page.goto(self.url + path)
        assert response is not None
        assert response.status == status, response.text()[:2_000]
        return self.page

    def press(self, name: str, *, status: int = 200, within: str = "main") -> Response:
        """Press the button of that name; return the answer to its form, or of where that redirected to."""
        self.allowed |= {status} - {200}
        with self.page.expect_navigation() as navigation:
            self.page.locator(within).get_by_role("button", name=name, exact=True).first.click()
        response = navigation.value
        assert response.status == status, response.text()[:2_000]
        return response

    def follow(self, link: Locator) -> None:
        """Click a link; return when the page that it leads to is loaded, and can be read."""
        with self.page.expect_navigation():
            link.click()

    def sign_in(self, token: str) -> None:
        """Sign in with a token, by the form."""
        self.open("/login")
        self.page.get_by_label("API token").fill(token)
        self.press("Sign in")

    def check(self) -> None:
        """Check that nothing was wrong so far."""
        if self.javascript and self.page.url.startswith(self.url):
            self.problems += [f"CSP: {violation}" for violation in self.page.evaluate("window.violations")]
        assert self.problems == []

    def check_layout(self) -> None:
        """Check that the page fits the window, and that nothing in it moved while it was loaded."""
        widths = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        scroll_width, width = self.page.evaluate(widths)
        assert scroll_width <= width, f"{scroll_width} px wide in a window of {width} px"
        assert self.page.evaluate("window.shift ?? 0") < 0.01

    def check_accessibility(self, rules: Sequence[str] = ()) -> None:
        """Check the page by axe, by all of its rules or by some."""
        chosen = {"type": "rule", "values": rules} if rules else {"type": "tag", "values": _TAGS}
        found: Any = _AXE.run(self.page, options={"runOnly": chosen, "resultTypes": ["violations"]}).response
        assert not found["violations"], "\n".join(
            f"{violation['id']}: {node['html'][:200]}: {node['failureSummary']}"
            for violation in found["violations"]
            for node in violation["nodes"]
        )


def visit(browser: Browser, url: str, *, javascript: bool = True, width: int = 1280, **options: Any) -> Visitor:  # noqa: ANN401 - as Playwright takes them
    """Open a browser profile of its own."""
    context = browser.new_context(
        java_script_enabled=javascript, viewport={"width": width, "height": 800}, reduced_motion="reduce", **options
    )
    return Visitor(context, url, javascript=javascript)
