"""Responses of the API and pages are compressed for clients that accept it; those of deliveries are not."""

import gzip
import json
from collections.abc import Mapping

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.builders import pending_event, record
from tests.support.web_client import TOKEN, add_workspace, sample, send, web


@pytest.fixture
def client(environ: dict[str, str]) -> FlaskClient:
    add_workspace()
    record(*(pending_event(issue=str(number)) for number in range(600)))
    return web(environ)


def get(client: FlaskClient, path: str, accepted: str = "gzip", **headers: str) -> TestResponse:
    return client.get(
        path, headers={"Authorization": f"Bearer {TOKEN}", "Accept-Encoding": accepted, **headers}, buffered=True
    )


@pytest.mark.parametrize("accepted", ["gzip", "br, gzip;q=0.5", "*"])
@pytest.mark.parametrize("path", ["/api/v1/groups", "/api/v1/groups/export", "/openapi.json", "/docs"])
def test_a_client_that_accepts_gzip_gets_the_same_in_a_fifth_of_the_bytes(
    client: FlaskClient, path: str, accepted: str
) -> None:
    plain, packed = get(client, path, "identity"), get(client, path, accepted)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert len(packed.data) < len(plain.data) / 5
    assert packed.headers.get("Content-Length") in (None, str(len(packed.data)))
    for response in (plain, packed):
        assert response.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize("accepted", ["", "identity", "br", "gzip;q=0"])
def test_other_clients_get_it_plain(client: FlaskClient, accepted: str) -> None:
    response = get(client, "/api/v1/groups", accepted)
    assert "Content-Encoding" not in response.headers
    assert json.loads(response.data)["groups"]


def test_a_small_response_stays_plain(client: FlaskClient) -> None:
    response = get(client, "/api/v1/groups/1")
    assert len(response.data) < 1_000
    assert "Content-Encoding" not in response.headers


def test_the_tag_of_a_compressed_response_is_weak_and_still_valid(client: FlaskClient) -> None:
    tag = get(client, "/api/v1/groups").headers["ETag"]
    assert tag.startswith("W/")
    unchanged = get(client, "/api/v1/groups", **{"If-None-Match": tag})
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    assert "Content-Encoding" not in unchanged.headers


@pytest.mark.parametrize("headers", [{}, {"Sentry-Hook-Signature": "wrong"}])
def test_the_answer_to_a_delivery_is_never_compressed(client: FlaskClient, headers: Mapping[str, str]) -> None:
    response = send(client, sample(), headers={"Accept-Encoding": "gzip", **headers})
    assert response.status_code in (202, 401)
    assert not {"Content-Encoding", "Vary"} & set(response.headers.keys())
