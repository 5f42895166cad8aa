"""A client of the pages that keeps its cookie and sends forms as a browser does."""

import re
from collections.abc import Mapping
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.web_client import TOKEN

ORIGIN = "http://localhost"
_CSRF = re.compile(r'name="csrf" value="([0-9a-f]+)"')
_VERSION = re.compile(r'name="version" value="(\d+)"')


def sign_in(client: FlaskClient, token: str = TOKEN, **fields: str) -> TestResponse:
    """Sign in; a new application on a busy machine may not have read its tokens within a second, and says 503."""
    for _ in range(3):
        response = client.post("/login", data={"token": token, **fields}, headers={"Origin": ORIGIN})
        if response.status_code != 503:
            break
    return response


def csrf_of(page: TestResponse, path: str) -> str:
    """The token of the form that ``page`` posts to ``path``."""
    _, form, rest = page.text.partition(f'action="{path}"')
    assert form, f"no form for {path}"
    found = _CSRF.search(rest)
    assert found
    return found.group(1)


def version_of(page: TestResponse) -> str:
    found = _VERSION.search(page.text)
    assert found
    return found.group(1)


def submit(client: FlaskClient, path: str, *, page: TestResponse, **options: Any) -> TestResponse:  # noqa: ANN401 - as the client takes them
    """Send a form of ``page`` with ``data`` as a browser would; ``headers`` override its own."""
    data: Mapping[str, Any] = {"csrf": csrf_of(page, path), **options.pop("data", {})}
    headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin", **options.pop("headers", {})}
    return client.post(path, data=data, headers=headers, **options)
