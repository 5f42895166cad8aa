"""The web process: ``create_app`` wires the application and maps exceptions to responses.

It opens no connection and starts no thread, so it may run before gunicorn forks.
"""

import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, cast

import structlog
from flask import Blueprint, Flask, Request, Response, g, request
from flask.sessions import NullSession, SessionInterface
from flask_limiter import Limiter
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from signalcraft.api import context as api_context
from signalcraft.api.context import ApiContext
from signalcraft.api.event_routes import events
from signalcraft.api.group_routes import groups
from signalcraft.api.notification_routes import notifications
from signalcraft.api.slack_replies import SlackReplies
from signalcraft.api.slack_routes import slack
from signalcraft.api.stats_routes import stats
from signalcraft.domain.errors import (
    DatabaseUnavailable,
    QueueUnavailable,
    Refusal,
    ThreadsExhausted,
    TooManyRequests,
    UriTooLong,
)
from signalcraft.groups.reading.cursors import Cursors
from signalcraft.ingest import routes
from signalcraft.ingest.context import IngestContext
from signalcraft.ingest.credential_cache import Caller, CredentialCache
from signalcraft.ingest.rate_limits import Rate, SharedCounters, network_of
from signalcraft.logs import exception_fields
from signalcraft.queues import redis_clients
from signalcraft.queues.used_once import UsedOnce
from signalcraft.resilience import CircuitBreaker, threads_exhausted
from signalcraft.settings import Settings
from signalcraft.sources import SOURCES
from signalcraft.storage import slow_queries
from signalcraft.storage.database import open_database
from signalcraft.thread_budgets import MAX_API_REQUESTS, MAX_OPERATIONS_REQUESTS
from signalcraft.web import dashboard, health, middleware, operations_routes, problem_details
from signalcraft.web.bulkhead import PROBES, limit_concurrency
from signalcraft.web.compression import compress_responses
from signalcraft.web.docs_routes import docs

log = structlog.get_logger(__name__)

#: Statuses of requests that are refused for their signature or token, or for their form before that.
_REFUSED_UNVERIFIED = (401, 404, 405, 411, 413, 414, 415)
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class _NoSessions(SessionInterface):
    """Opens the same empty session, which refuses to be written, for each request."""

    _none = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:  # noqa: ARG002 - Flask's signature
        return self._none


class _SessionlessFlask(Flask):
    """Flask without what no route of ours has: coroutines and Flask's sessions, for which it looks in each request."""

    session_interface = _NoSessions()
    #: For ``web.server``: what blocks in a delivery's route is called by ``greenlets.run_blocking``.
    runs_in_loop = True

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``func``."""
        return func


def create_app(settings: Settings) -> Flask:
    """Wire the web application."""
    app = _SessionlessFlask("signalcraft", static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of Flask's own provider; fields are in the schemas' order
    # A sender may take a redirect for success and not follow it: the alert would be lost.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    limiter = _install_contexts(app, settings)
    refused = Rate(limiter, "address", settings.ratelimit_address)
    if settings.dashboard_password:
        attempts = Rate(limiter, "password", settings.ratelimit_address)
        queues = dashboard.create_dashboard(
            settings.redis_url,
            settings.dashboard_password,
            password_attempts=attempts,
            refused=refused,
            client_key=_client_key,
        )
        app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {dashboard.PREFIX: queues})  # type: ignore[method-assign]  # as Flask's documentation says
    app.wsgi_app = middleware.bound_uri(app.wsgi_app)  # type: ignore[method-assign,assignment]  # likewise
    if settings.trusted_proxies:
        checked = middleware.check_address(app.wsgi_app)
        proxied = ProxyFix(checked, x_for=settings.trusted_proxies, x_proto=settings.trusted_proxies)
        app.wsgi_app = proxied  # type: ignore[method-assign]  # as Flask's documentation says
    open_database(settings.database_url, lock_timeout_ms=500, statement_timeout_ms=5_000)
    slow_queries.watch(settings.slow_query_ms)
    _handle_exceptions(app, refused)
    app.after_request(_add_headers)
    interactive = [groups, events, notifications, stats, slack, docs]
    if settings.ui:
        interactive.append(_install_pages(app, refused))
    _log_requests(app, [blueprint.name for blueprint in interactive])
    _limit_open_routes(app, Rate(limiter, "open", settings.ratelimit_address), settings)
    limit_concurrency(app, [blueprint.name for blueprint in interactive], MAX_API_REQUESTS)
    compress_responses(app, [blueprint.name for blueprint in interactive])
    limit_concurrency(app, [operations_routes.operations.name], MAX_OPERATIONS_REQUESTS)
    for blueprint in (routes.webhooks, operations_routes.operations, *interactive):
        app.register_blueprint(blueprint)
    return app


def _install_pages(app: Flask, refused: Rate) -> Blueprint:
    """Install the context of the pages; return their blueprint."""
    # UI=off keeps all of it out of the process.
    from signalcraft.ui.context import UiContext  # noqa: PLC0415
    from signalcraft.ui.pages import pages  # noqa: PLC0415
    from signalcraft.ui.session import Sessions  # noqa: PLC0415

    shared = api_context.of(app)
    UiContext(
        settings=shared.settings,
        credentials=shared.credentials,
        sessions=Sessions.from_secret(shared.settings.database_url),
        used_once=UsedOnce(
            redis=shared.redis,
            breaker=CircuitBreaker(QueueUnavailable),
            prefix="signalcraft:used:",
            timeout_seconds=0.2,
        ),
        rate=shared.rate,
        refused=refused,
        client_key=_client_key,
        cursors=shared.cursors,
        redis=shared.redis,
        wake_notifier=shared.wake_notifier,
        check_health=lambda: health.check(shared.redis, shared.credentials),
    ).install(app)
    return pages


def _install_contexts(app: Flask, settings: Settings) -> Limiter:
    redis = redis_clients.for_web(settings.redis_url)
    limiter = Limiter(
        _client_key,
        # A separate application: the routes hit their limits themselves, and flask-limiter would otherwise look for
        # limits before each request.
        app=Flask("limits", static_folder=None),
        storage_uri=f"{SharedCounters.STORAGE_SCHEME[0]}://",
        storage_options=cast("dict[str, str | int]", {"redis": redis}),
    )
    credentials = CredentialCache(settings)
    IngestContext(
        settings=settings,
        vocabulary=settings.vocabulary,
        credentials=credentials,
        limit=Rate(limiter, "workspace", settings.ratelimit_webhook).hit,
        redis=redis,
        breaker=CircuitBreaker(QueueUnavailable),
    ).install(app)
    breaker = CircuitBreaker(QueueUnavailable)
    ApiContext(
        settings=settings,
        credentials=credentials,
        rate=Rate(limiter, "token", settings.ratelimit_api),
        cursors=Cursors.from_secret(settings.database_url),
        redis=redis,
        breaker=breaker,
        slack_presses=UsedOnce(redis=redis, breaker=breaker, prefix="signalcraft:slack:", timeout_seconds=0.1),
        slack_replies=SlackReplies(settings.slack_api_url),
    ).install(app)
    return limiter


def _limit_open_routes(app: Flask, rate: Rate, settings: Settings) -> None:
    """Limit, by address, the routes that need no token.

    Probes have no limit: over it, a platform would take the process for dead.
    """

    def hit() -> None:
        needs_token = request.endpoint == "operations.show_metrics" and settings.metrics_token
        if request.path not in PROBES and not needs_token:
            rate.hit(_client_key())

    for scope in (docs.name, operations_routes.operations.name):
        app.before_request_funcs[scope].append(hit)


def _http_error_response(error: HTTPException) -> Response:
    """Respond to an error of Werkzeug.

    A sender may call other paths of the webhook's host: name that.
    """
    if error.code in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        headers = {name.lower(): value for name, value in request.headers}
        for source in SOURCES.values():
            if refusal := source.misdirected(headers):
                return problem_details.from_refusal(refusal)
    return problem_details.from_http(error)


def _handle_exceptions(app: Flask, refused: Rate) -> None:
    """Map each exception to a problem.

    ``refused`` limits requests that are refused for their credentials, or before those were looked at, by address.
    """

    def over_limit(status: int | None) -> TooManyRequests | None:
        if status in _REFUSED_UNVERIFIED and "caller" not in g:
            try:
                refused.hit(_client_key())
            except TooManyRequests as too_many:
                return too_many
        return None

    def refusal_response(refusal: Refusal) -> Response:
        return problem_details.from_refusal(over_limit(refusal.status) or refusal)

    def http_error_response(error: HTTPException) -> Response:
        if middleware.was_cut_off(request.environ):
            return refusal_response(UriTooLong())
        too_many = over_limit(error.code)
        return problem_details.from_refusal(too_many) if too_many else _http_error_response(error)

    app.register_error_handler(Refusal, refusal_response)
    app.register_error_handler(ValidationError, problem_details.from_validation)
    app.register_error_handler(DatabaseUnavailable, problem_details.from_outage)
    app.register_error_handler(QueueUnavailable, problem_details.from_outage)
    app.register_error_handler(ThreadsExhausted, _threads_exhausted_response)
    app.register_error_handler(HTTPException, http_error_response)
    app.register_error_handler(Exception, _unexpected_error_response)


def _threads_exhausted_response(error: ThreadsExhausted) -> Response:
    """Return 503; the gunicorn worker stops soon, and another one is started."""
    threads_exhausted.set()
    return problem_details.from_outage(error)


def _log_requests(app: Flask, scopes: Iterable[str]) -> None:
    """Log each request of the blueprints named ``scopes``.

    Its query string is left out. Deliveries have their own line. Requests without a route are logged too: a mistyped
    webhook URL gives the sender a 404, and must be visible here.
    """

    def start_timer() -> None:
        g.started_at = time.perf_counter()

    def log_request(response: Response) -> Response:
        caller: Caller | None = g.get("caller")
        write = log.warning if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR else log.info
        write(
            "request answered",
            stage="api",
            method=request.method,
            path=request.path if request.endpoint else None,  # an unknown path may contain anything
            workspace_id=caller.workspace_id if caller else None,
            token_name=caller.token if caller else None,
            status=response.status_code,
            code=g.get("problem_code"),
            duration_ms=round((time.perf_counter() - g.started_at) * 1000, 2),
            address=request.remote_addr,
        )
        return response

    def log_without_route(response: Response) -> Response:
        return log_request(response) if request.endpoint is None else response

    app.before_request(start_timer)
    app.after_request(log_without_route)
    for scope in scopes:
        app.after_request_funcs[scope].append(log_request)


def _unexpected_error_response(error: Exception) -> Response:
    """Log an unexpected exception and return a problem.

    The response says only that the fault is not the client's.
    """
    log.error("request failed", path=request.path, delivery_id=g.get("delivery_id"), **exception_fields(error))
    return problem_details.from_refusal(Refusal())


def _client_key() -> str:
    return network_of(request.remote_addr)


def _add_headers(response: Response) -> Response:
    """Add the headers that the view has not set.

    Werkzeug's ``setdefault`` raises and catches for each: 40 us.
    """
    present = {name.lower() for name, _ in response.headers}
    for name, value in (*_SECURITY_HEADERS.items(), *g.get("rate_headers", {}).items()):
        if name.lower() not in present:
            response.headers.add(name, value)
    return response
