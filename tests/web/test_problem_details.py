"""Every refusal is an RFC 9457 problem with a stable code, and quotes nothing of the request."""

import pytest
from flask.testing import FlaskClient
from structlog.testing import capture_logs
from werkzeug.exceptions import ClientDisconnected

from signalcraft.domain import errors
from signalcraft.domain.errors import Refusal
from tests.support.web_client import add_workspace, ask, code_of, web


@pytest.fixture
def client(environ: dict[str, str]) -> FlaskClient:
    add_workspace()
    return web(environ)


def refusals() -> list[type[Refusal]]:
    return [thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, Refusal)]


def test_every_401_names_the_scheme_that_is_expected(environ: dict[str, str]) -> None:
    """RFC 9110, section 15.5.2."""
    add_workspace()
    client = web(environ, METRICS_TOKEN="a-token-of-metrics", RATELIMIT_ADDRESS="1000/minute")
    refused = 0
    for rule in client.application.url_map.iter_rules():
        (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        values = dict.fromkeys(rule.arguments, 1) | ({"source": "sentry"} if "source" in rule.arguments else {})
        path = rule.build(values)[1]  # type: ignore[index]  # it has all it needs
        response = client.open(path, method=method, json={} if method == "POST" else None)
        if response.status_code == 401:
            scheme = "HMAC-SHA256" if path.startswith("/webhooks/") else "Bearer"
            assert response.headers["WWW-Authenticate"].startswith(f"{scheme} realm="), path
            refused += 1
        else:
            assert "WWW-Authenticate" not in response.headers
    assert refused > 10


def test_no_two_refusals_share_a_code() -> None:
    codes = [refusal.code for refusal in refusals()]
    assert len(codes) == len(set(codes)) > 15


@pytest.mark.parametrize("refusal", refusals(), ids=lambda refusal: refusal.code)
def test_each_refusal_is_a_problem_with_its_status_and_code(environ: dict[str, str], refusal: type[Refusal]) -> None:
    client = web(environ)

    def refuse() -> str:
        raise refusal("in detail")

    client.application.add_url_rule("/refuse", view_func=refuse)
    response = client.get("/refuse")
    assert response.status_code == refusal.status
    assert code_of(response) == refusal.code
    problem = response.get_json()
    assert problem["type"] == f"urn:signalcraft:problem:{refusal.code}"
    assert problem["title"] == refusal.title
    assert problem["detail"] == "in detail"
    assert ("Retry-After" in response.headers) == (refusal.status == 503)
    assert ("WWW-Authenticate" in response.headers) == (refusal.status == 401)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.DatabaseUnavailable("host=secret-canary"), 503, "unavailable"),
        (errors.QueueUnavailable("secret-canary"), 503, "unavailable"),
        (ZeroDivisionError("secret-canary"), 500, "internal_error"),
        (ClientDisconnected("secret-canary"), 400, "request_malformed"),
    ],
)
def test_every_other_exception_is_a_problem_without_details(
    environ: dict[str, str], error: Exception, status: int, code: str
) -> None:
    client = web(environ)

    def fail() -> str:
        raise error

    client.application.add_url_rule("/fail", view_func=fail)
    response = client.get("/fail")
    assert (response.status_code, code_of(response)) == (status, code)
    assert "secret-canary" not in response.get_data(as_text=True) + str(response.headers)


def test_an_unknown_path_is_a_problem(client: FlaskClient) -> None:
    for path in ("/nowhere", "/webhooks", "/webhooks/github", "//webhooks/sentry", "/api/v1/nothing"):
        response = client.post(path)
        assert (response.status_code, code_of(response)) == (404, "not_found")
        assert "Location" not in response.headers


def test_a_method_that_is_not_allowed_is_a_problem_with_the_allowed_ones(client: FlaskClient) -> None:
    response = client.delete("/api/v1/groups")
    assert (response.status_code, code_of(response)) == (405, "method_not_allowed")
    assert "GET" in response.headers["Allow"]


def test_every_response_forbids_sniffing_and_caching(client: FlaskClient) -> None:
    for response in (client.get("/healthz"), ask(client, "/groups"), client.get("/nowhere")):
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == ("private, no-cache" if "ETag" in response.headers else "no-store")


# --- routes for operators


def test_a_live_process_responds_ok(client: FlaskClient) -> None:
    assert client.get("/healthz").get_json() == {"status": "ok"}


def test_metrics_are_open_unless_they_have_a_token(environ: dict[str, str]) -> None:
    assert "signalcraft_queue_depth" in web(environ).get("/metrics").get_data(as_text=True)
    client = web(environ, METRICS_TOKEN="scrape")
    assert code_of(client.get("/metrics")) == "token_invalid"
    assert code_of(client.get("/metrics", headers={"Authorization": "Bearer caf\u00e9"})) == "token_invalid"
    assert client.get("/metrics", headers={"Authorization": "Bearer scrape"}).status_code == 200


def test_without_redis_the_metrics_of_postgresql_remain(environ: dict[str, str]) -> None:
    """The inbox is in use just then: its alarm must see it."""
    response = web(environ, REDIS_URL="redis://127.0.0.1:1/0").get("/metrics")
    assert response.status_code == 200
    assert "\nsignalcraft_inbox_depth 0.0\n" in response.text
    assert "signalcraft_webhooks_total" not in response.text


def test_an_api_call_is_logged_without_its_query_string(client: FlaskClient) -> None:
    with capture_logs() as lines:
        assert ask(client, "/groups?q=somebody").status_code == 200
        assert ask(client, "/groups/99").status_code == 404
        assert client.get("/api/v1/groups").status_code == 401
    logged = [line for line in lines if line["event"] == "request answered"]
    assert [(line["path"], line["status"], line["code"]) for line in logged] == [
        ("/api/v1/groups", 200, None),
        ("/api/v1/groups/99", 404, "not_found"),
        ("/api/v1/groups", 401, "token_invalid"),
    ]
    assert [line["workspace_id"] for line in logged] == [1, 1, None]
    assert all(line["duration_ms"] > 0 and line["address"] for line in logged)
    assert "somebody" not in str(lines)
