"""The OpenAPI description matches every route, every code and every response."""

import re
from collections.abc import Mapping

import pytest
import schemathesis
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from signalcraft.storage import tenants
from signalcraft.storage.database import session
from signalcraft.web import openapi
from tests.support import ROOT
from tests.support.builders import pending_event, record
from tests.support.web_client import TOKEN, add_workspace, code_of, web

API_PAGE = ROOT / "docs" / "api.md"
#: ``/readyz`` and ``/metrics`` are excluded below: a 503 of ``/readyz`` is correct, metrics of a test may be anything.
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
NO_LIMITS = {
    "RATELIMIT_API": "1000000/minute",
    "RATELIMIT_ADDRESS": "1000000/minute",
    "RATELIMIT_WEBHOOK": "1000000/minute",
}


@pytest.fixture
def client(environ: dict[str, str]) -> FlaskClient:
    add_workspace()
    return web(environ, **NO_LIMITS)


def routes(client: FlaskClient) -> list[tuple[str, str]]:
    return [(openapi.method_of(rule), openapi.path_of(rule)) for rule in client.application.url_map.iter_rules()]


def test_every_route_is_described(client: FlaskClient) -> None:
    description = client.get("/openapi.json").get_json()
    assert {(method, path) for path, methods in description["paths"].items() for method in methods} == set(
        routes(client)
    )
    assert {rule.endpoint for rule in client.application.url_map.iter_rules()} == set(openapi.OPERATIONS)


def test_every_call_that_needs_a_token_says_so(client: FlaskClient) -> None:
    for method, path in routes(client):
        operation = client.get("/openapi.json").get_json()["paths"][path][method]
        assert ("security" in operation) is path.startswith("/api/"), path
        if path.startswith("/api/"):
            concrete = re.sub(r"{\w+}", "1", path)
            assert code_of(client.open(concrete, method=method.upper())) == "token_invalid"


def test_every_response_field_has_a_type_except_the_payload(client: FlaskClient) -> None:
    shapes = client.get("/openapi.json").get_json()["components"]["schemas"]
    untyped = {
        (name, field)
        for name, shape in shapes.items()
        for field, schema in shape["properties"].items()
        if not {"type", "$ref", "enum"} & set(schema)
    }
    assert untyped == {("EventWithPayload", "payload")}


def test_the_html_page_loads_nothing_from_other_hosts(client: FlaskClient) -> None:
    response = client.get("/docs")
    page = response.get_data(as_text=True)
    assert response.mimetype == "text/html"
    assert "<script" not in page
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert [link for link in links if not link.startswith("#")] == ["/docs/style.css", "/openapi.json"]
    assert "style-src 'self'" in response.headers["Content-Security-Policy"]
    assert client.get("/docs/style.css").mimetype == "text/css"
    for code in openapi.codes():
        assert f"<code>{code}</code>" in page


def test_the_html_page_links_every_call_and_every_schema(client: FlaskClient) -> None:
    page, description = client.get("/docs").text, client.get("/openapi.json").get_json()
    anchors = re.findall(r'id="([^"]+)"', page)
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert len(anchors) == len(set(anchors))
    assert links <= set(anchors)
    calls = {operation["operationId"] for methods in description["paths"].values() for operation in methods.values()}
    assert calls | {"GroupsPage", "EditBody", "Stats"} <= links


def test_the_html_page_lists_successes_first_and_codes_as_code(client: FlaskClient) -> None:
    page = client.get("/docs").text
    for call in page.split("<h2")[1:-2]:
        statuses = re.findall(r"<tr><td>(\d{3})</td>", call)
        assert statuses == sorted(statuses)
        assert statuses[0].startswith("2")
    assert "`" not in page


def test_the_page_in_the_repository_has_every_route_with_a_curl_line_and_every_code(client: FlaskClient) -> None:
    page = API_PAGE.read_text()
    headings = set(re.findall(r"^### `([A-Z]+) (\S+)`", page, re.MULTILINE))
    assert headings == {(method.upper(), path) for method, path in routes(client)}
    for section in re.split(r"^### ", page, flags=re.MULTILINE)[1:]:
        assert "\ncurl " in section, section.splitlines()[0]
    codes = {(code, int(status)) for code, status in re.findall(r"^\| `(\w+)` \| (\d{3}) \|", page, re.MULTILINE)}
    assert codes == {(code, status) for code, (status, _) in openapi.codes().items()}


@pytest.mark.parametrize("mode", schemathesis.GenerationMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("token", [TOKEN, "of acme", "none"])
def test_every_response_matches_its_description(
    environ: dict[str, str], token: str, mode: schemathesis.GenerationMode
) -> None:
    """With the token of a workspace with groups, of one without, and with none; valid and invalid requests."""
    add_workspace()
    add_workspace("acme")
    record(*(pending_event(issue=str(number % 5)) for number in range(20)))
    if token == "of acme":
        with session():
            token = tenants.create_token("acme", can_write=True, name="acme")
    client = web(environ, **NO_LIMITS)
    schema = schemathesis.openapi.from_wsgi("/openapi.json", client.application)
    headers: Mapping[str, str] = {} if token == "none" else {"Authorization": f"Bearer {token}"}

    @settings(max_examples=15, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def call(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=dict(headers), checks=CHECKS)

    for found in schema.exclude(path_regex="^/(readyz|metrics)").get_all_operations():
        operation = found.ok()
        if mode is schemathesis.GenerationMode.POSITIVE or operation.body or operation.query:
            given(case=operation.as_strategy(generation_mode=mode))(call)()
