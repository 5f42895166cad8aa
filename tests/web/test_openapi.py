"""The OpenAPI description matches every route, every code and every response."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
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
from signalcraft.web import docs_routes, openapi, openapi_routes
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
    return [
        (openapi_routes.method_of(rule), openapi_routes.path_of(rule))
        for rule in openapi_routes.rules(client.application)
    ]


def test_every_route_is_described(client: FlaskClient) -> None:
    description = client.get("/openapi.json").get_json()
    assert {(method, path) for path, methods in description["paths"].items() for method in methods} == set(
        routes(client)
    )
    assert {rule.endpoint for rule in openapi_routes.rules(client.application)} == set(openapi.OPERATIONS)


def test_a_person_who_opens_the_address_is_told_what_it_is(environ: dict[str, str]) -> None:
    response = web(environ, UI="off").get("/")
    assert (response.status_code, response.mimetype) == (200, "text/plain")
    assert all(path in response.text for path in ("/webhooks/sentry", "/webhooks/alertmanager", "/docs", "/readyz"))


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


def operations(client: FlaskClient) -> Iterator[tuple[str, str, Any]]:
    """Return path, method and description of each call."""
    for path, methods in client.get("/openapi.json").get_json()["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def has_example(schema: Any) -> bool:  # noqa: ANN401 - as JSON has it
    return "examples" in schema or "$ref" in {**schema, **schema.get("items", {})}


def test_every_parameter_and_field_has_a_description_and_an_example(client: FlaskClient) -> None:
    """What refers to another schema has its example from there."""
    without = [
        (path, method, parameter["name"])
        for path, method, operation in operations(client)
        for parameter in operation["parameters"]
        if not parameter.get("description") or not ("example" in parameter or has_example(parameter["schema"]))
    ]
    shapes = client.get("/openapi.json").get_json()["components"]["schemas"]
    without += [
        (name, field, "")
        for name, shape in shapes.items()
        for field, schema in shape["properties"].items()
        if not schema.get("description") or not has_example(schema)
    ]
    assert not without


def test_every_call_has_an_example_of_each_answer_that_matches_its_schema(client: FlaskClient) -> None:
    shapes = client.get("/openapi.json").get_json()["components"]["schemas"]
    for path, method, operation in operations(client):
        for status, response in operation["responses"].items():
            for content in response.get("content", {}).values():
                assert content["example"], (method, path, status)
                schema = {**content["schema"], "components": {"schemas": shapes}}
                jsonschema.validate(content["example"], schema)


def test_the_example_of_each_request_is_accepted(client: FlaskClient) -> None:
    record(pending_event())
    tried = 0
    for path, method, operation in operations(client):
        if "requestBody" not in operation or not path.startswith("/api/"):
            continue
        (content,) = operation["requestBody"]["content"].values()
        headers = {"Authorization": f"Bearer {TOKEN}", "Sentry-Hook-Resource": "event_alert"}
        response = client.open(path.format(group_id=1), method=method, json=content["example"], headers=headers)
        assert response.status_code == 200, (method, path, response.text)
        tried += 1
    assert tried == 3


def test_the_examples_of_the_parameters_are_accepted(client: FlaskClient) -> None:
    record(pending_event())
    tried = 0
    for path, method, operation in operations(client):
        given = {
            parameter["name"]: parameter["schema"]["examples"][0]
            for parameter in operation["parameters"]
            if parameter["in"] == "query" and parameter["name"] != "cursor"
        }
        if given and "requestBody" not in operation:
            query = {name: json.dumps(value) if isinstance(value, bool) else value for name, value in given.items()}
            headers = {"Authorization": f"Bearer {TOKEN}"}
            response = client.open(path.format(group_id=1), method=method, query_string=query, headers=headers)
            assert response.status_code == 200, (path, response.text)
            tried += 1
    assert tried == 10


def test_groups_come_first(client: FlaskClient) -> None:
    tags = [tag["name"] for tag in client.get("/openapi.json").get_json()["tags"]]
    assert tags[0] == "groups"
    headings = re.findall(r"<h3>(\w+)</h3>", client.get("/docs").text)
    assert [heading.lower() for heading in headings[: len(tags)]] == tags


def test_the_html_page_has_the_errors_of_any_call_once(client: FlaskClient) -> None:
    page = client.get("/docs").text
    for code in ("token_invalid", "rate_limited", "unavailable", "internal_error", "uri_too_long"):
        assert page.count(f"<code>{code}</code>") == 1, code
    assert page.count("<code>cursor_invalid</code>") > 1


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("limit", "whole number, 1 to 200"),
        ("since", "time or date"),
        ("severity_min", "info, low, med, high, critical"),
        ("status", "list of open, ack, resolved, snoozed (! may stand before it)"),
        ("snoozed_until", "time or null"),
        ("dedup_ratio", "number"),
        ("tags", "list of list of text"),
    ],
)
def test_the_html_page_shows_types_as_a_reader_would_say_them(client: FlaskClient, field: str, words: str) -> None:
    rows = re.findall(r"<tr><td><code>(\w+)</code></td>(.*?)</tr>", client.get("/docs").text, re.DOTALL)
    cells = [re.findall(r"<td>(.*?)</td>", row, re.DOTALL) for name, row in rows if name == field]
    assert any(words in row for row in cells), cells


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


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/docs/style.css"])
def test_the_documentation_is_rendered_once_and_revalidated_by_its_tag(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    first = client.get(path)

    def render(*_: object, **__: object) -> None:
        pytest.fail("rendered again")

    for name in ("render_template_string", "describe", "jsonify"):
        monkeypatch.setattr(docs_routes, name, render)
    again = client.get(path)
    assert (again.data, again.headers["ETag"]) == (first.data, first.headers["ETag"])
    unchanged = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (unchanged.status_code, unchanged.data) == (304, b"")


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


def test_the_page_in_the_repository_shows_the_answer_of_each_call(client: FlaskClient) -> None:
    """The answers are the examples of the description."""
    sections = {
        (method.lower(), path): section
        for method, path, section in re.findall(
            r"^### `([A-Z]+) (\S+)`\n(.*?)(?=^##|\Z)", API_PAGE.read_text(), re.MULTILINE | re.DOTALL
        )
    }
    for path, method, operation in operations(client):
        success = next(operation["responses"][status] for status in ("202", "200") if status in operation["responses"])
        ((media, content),) = success.get("content", {"no body": {}}).items()
        if media in {"application/json", openapi.NDJSON}:
            example = content["example"] if media == "application/json" else json.loads(content["example"])
            (shown,) = re.findall(r"^```json\n(.*?)^```", sections[method, path], re.MULTILINE | re.DOTALL)
            assert json.loads(shown) == example, (method, path)


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
    headers = {"Accept-Encoding": "identity"}  # schemathesis asks for gzip and does not unpack it
    if token != "none":
        headers["Authorization"] = f"Bearer {token}"

    @settings(max_examples=15, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def call(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)

    for found in schema.exclude(path_regex="^/(readyz|metrics)").get_all_operations():
        operation = found.ok()
        if mode is schemathesis.GenerationMode.POSITIVE or operation.body or operation.query:
            given(case=operation.as_strategy(generation_mode=mode))(call)()
