"""Debian's Chromium, driven by Playwright.

Where there is none, tests that need it are skipped, unless BROWSER_TESTS is ``required``.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-default-apps",
]
#: Playwright's event loop cannot be started twice in a thread.
_running: list[Browser] = []


@contextmanager
def browser() -> Iterator[Browser]:
    """The browser that runs already, or else a new one for the block."""
    if _running:
        yield _running[0]
        return
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("BROWSER_TESTS") == "required":
            pytest.fail("There is no chromium: the pages were not tried in a browser.")
        pytest.skip("There is no chromium: the pages are not tried in a browser.")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        _running.append(launched)
        try:
            yield launched
        finally:
            _running.clear()
            launched.close()
