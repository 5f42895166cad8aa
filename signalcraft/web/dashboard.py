"""rq-dashboard for our queues, read-only.

A separate application under ``/rq``, since its pages need scripts that our policy forbids. rq-dashboard 0.9.0 has no
login, changes state on some GETs (``/requeue/<queue>``), and unpickles jobs in two functions; so this module adds a
password, an allow-list of pages, and job classes that read JSON. It has its own Redis pool, and at most two concurrent
requests may query Redis: it must never take the threads that receive deliveries.
"""

import hmac
import secrets
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import urlsplit

import rq_dashboard
from flask import Flask, Response, abort, request
from redis import BlockingConnectionPool, Redis
from redis.exceptions import RedisError
from rq import Worker
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer
from rq_dashboard import web as pages

from signalcraft.api import auth
from signalcraft.domain.errors import TooManyRequests
from signalcraft.ingest.rate_limits import Rate
from signalcraft.queues import jobs, redis_clients
from signalcraft.thread_budgets import MAX_DASHBOARD_REQUESTS

PREFIX: Final = "/rq"

#: Read-only endpoints. The others of the blueprint delete, empty, compact or requeue.
_PAGES: Final = {"static"} | {
    f"rq_dashboard.{name}"
    for name in (
        "favicon",
        "job_info",
        "job_view",
        "jobs_overview",
        "list_jobs",
        "list_queues",
        "list_workers",
        "queues_overview",
        "static",
        "workers_overview",
    )
}
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
#: The pages fill their tables from Underscore templates, which are compiled in the browser: without 'unsafe-eval' a
#: page shows "Loading..." forever. The one inline script of each page gets a nonce, since it writes descriptions and
#: errors of jobs into the page without escaping. Bootstrap's arrows and switches are data: images in its stylesheet.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SCRIPT: Final = '<script type="text/javascript">'
#: Hides the buttons whose requests are refused: the pages would not report the refusal.
_STYLE: Final = """<style>
#compact-btn, #requeue-all-btn, #requeue-job-btn, [data-role=requeue-job-btn] { display: none !important }
</style>"""


class _Job(jobs.AllowedJob):
    """A job with JSON arguments, also where rq-dashboard does not pass a serializer."""

    @classmethod
    def fetch(cls, id: str, connection: Redis | None = None, serializer: Any = JSONSerializer) -> Job:  # noqa: A002, ANN401 - RQ's signature
        return super().fetch(id, connection=connection, serializer=serializer)


class _Worker(Worker):
    """A worker whose current job has JSON arguments."""

    @classmethod
    def all(cls, connection: Redis, **_: Any) -> list[Any]:  # type: ignore[override]  # rq-dashboard gives nothing else  # noqa: ANN401 - RQ's signature
        return super().all(connection, job_class=_Job, serializer=JSONSerializer)


def create_dashboard(
    redis_url: str,
    password: str,
    *,
    password_attempts: Rate | None = None,
    refused: Rate | None = None,
    client_key: Callable[[], str] = str,
) -> Flask:
    """Create the application, without opening a connection.

    An empty password disables authentication. ``password_attempts`` limits wrong passwords, and ``refused`` requests
    without one, per ``client_key()``.
    """
    app = Flask("signalcraft.web.dashboard", static_folder=rq_dashboard.blueprint.static_folder)
    # Only shown on the pages as the name of the instance: _remove_reconnect() prevents a connection to it.
    app.config["RQ_DASHBOARD_REDIS_URL"] = ("redis://signalcraft",)
    app.config["RQ_DASHBOARD_DISABLE_DELETE"] = True
    app.redis_conn = _connection(redis_url)  # type: ignore[attr-defined]  # where rq-dashboard looks for it
    pages.config.serializer = JSONSerializer
    pages.Job, pages.Worker = _Job, _Worker
    _remove_reconnect()
    app.before_request(lambda: _authenticate(password, password_attempts, refused, client_key))
    app.before_request(_default_to_alerts)
    app.register_error_handler(TooManyRequests, _too_many_response)
    app.register_error_handler(NoSuchJobError, _missing_job_response)
    app.register_error_handler(RedisError, _unavailable_response)
    app.after_request(_add_headers_and_nonce)
    app.register_blueprint(rq_dashboard.blueprint)
    app.wsgi_app = _ConcurrencyLimit(app.wsgi_app)  # type: ignore[method-assign]  # as Flask's documentation says
    return app


def _connection(redis_url: str) -> Redis:
    """Create a pool of two connections with short timeouts.

    It is separate from the pool of deliveries.
    """
    pool = redis_clients.for_web(redis_url).connection_pool
    pool_of_two = BlockingConnectionPool(  # type: ignore[no-untyped-call]  # redis's
        connection_class=pool.connection_class,
        max_connections=MAX_DASHBOARD_REQUESTS,
        timeout=1,
        **pool.connection_kwargs,
    )
    return Redis(connection_pool=pool_of_two)


def _remove_reconnect() -> None:
    """Remove the hook that opens and leaks connections.

    It would do so on each request that names an instance.
    """
    hooks = rq_dashboard.blueprint.before_request_funcs.get(None, [])
    if pages.push_rq_connection in hooks:
        hooks.remove(pages.push_rq_connection)


def _authenticate(
    password: str, password_attempts: Rate | None, refused: Rate | None, client_key: Callable[[], str]
) -> Response | None:
    """Check the password and the allow-list.

    Over the limit the right password is refused too: otherwise guessing would still find it.
    """
    offered = auth.password(request)
    if password and offered and password_attempts:
        password_attempts.check(client_key())
    if password and not hmac.compare_digest(password.encode(), offered.encode(errors="surrogateescape")):
        rate = password_attempts if offered else refused
        if rate:
            rate.hit(client_key())
        return Response("A password is needed.\n", 401, {"WWW-Authenticate": 'Basic realm="queues"'})
    if request.method not in ("GET", "HEAD") or (request.endpoint and request.endpoint not in _PAGES):
        abort(Response("The dashboard is read-only.\n", 403))
    return None


def _default_to_alerts() -> None:
    """Show the queue ``alerts`` if none is named.

    rq-dashboard would show "default", which we do not use.
    """
    if request.endpoint == "rq_dashboard.jobs_overview" and request.view_args and not request.view_args["queue_name"]:
        request.view_args["queue_name"] = jobs.ALERTS


def _too_many_response(refusal: TooManyRequests) -> Response:
    return Response("Too many requests without the right password.\n", refusal.status, refusal.headers)


def _missing_job_response(_: Exception) -> Response:
    return Response(
        "There is no such job any more: processed jobs are deleted from Redis.\n", 404, mimetype="text/plain"
    )


def _unavailable_response(_: Exception) -> Response:
    return Response("Redis cannot be reached.\n", 503, {"Retry-After": "5"}, mimetype="text/plain")


def _add_headers_and_nonce(response: Response) -> Response:
    """Add our headers to a response.

    HTML pages also get the nonce and the stylesheet.
    """
    nonce = secrets.token_urlsafe(16)
    if response.mimetype == "text/html":
        page = response.get_data(as_text=True)
        response.set_data(
            page.replace(_SCRIPT, f'<script nonce="{nonce}">').replace("</head>", f"{_STYLE}</head>", 1),
        )
    if response.location:  # Werkzeug makes it absolute, with whatever the Host header names
        response.location = urlsplit(response.location)._replace(scheme="", netloc="").geturl()
    for name, value in {**_HEADERS, "Content-Security-Policy": _POLICY.format(nonce=nonce)}.items():
        response.headers.setdefault(name, value)
    return response


class _ConcurrencyLimit:
    """WSGI middleware that limits concurrent requests, except for static files, of which a page loads six."""

    def __init__(self, application: Any) -> None:  # noqa: ANN401 - WSGI's
        self._application = application
        self._permits = threading.BoundedSemaphore(MAX_DASHBOARD_REQUESTS)

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:  # noqa: ANN401 - WSGI's
        if environ.get("PATH_INFO", "").startswith("/static/"):
            files: Iterable[bytes] = self._application(environ, start_response)
            return files
        if not self._permits.acquire(blocking=False):
            return Response("Busy.\n", 503, {"Retry-After": "1"})(environ, start_response)
        try:
            body: Iterable[bytes] = self._application(environ, start_response)
        finally:
            self._permits.release()
        return body
