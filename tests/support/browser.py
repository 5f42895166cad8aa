"""Debian's Chromium, driven by Playwright, for the tests of pages."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-default-apps",
]


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser; the test is skipped where none is installed, but not in CI."""
    program = shutil.which("chromium")
    if program is None:
        assert "CI" not in os.environ, ".ci/run installs it"
        pytest.skip("Chromium is not installed (Debian: chromium)")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        yield launched
        launched.close()


@contextmanager
def browsing(browser: Browser, **options: Any) -> Iterator[BrowserContext]:  # noqa: ANN401 - Playwright's own
    """A context in ``browser``, whose pages may write no error to the console."""
    errors: list[str] = []
    context = browser.new_context(**options)
    context.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: errors.append(str(error.error)))
    yield context
    context.close()
    assert errors == []
