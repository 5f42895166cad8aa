"""rq-dashboard on our queues, to look at and not to touch.

Its own application under ``/rq``: its pages need scripts that ours forbid. rq-dashboard 0.9.0 has no login, changes
state on some GETs (``/requeue/<queue>``), and reads jobs with pickle in two places; so it is let in by password, by
an allow-list of its pages, and with classes that read JSON. It has a Redis pool of its own, and at most two requests
at a time ask Redis for something: it must never take a thread from taking in.
"""

import hmac
import secrets
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

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

MAX_REQUESTS: Final = 2
PREFIX: Final = "/rq"

#: What only shows. Everything else of the blueprint deletes, empties, compacts or puts back.
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
#: Underscore's templates, by which its pages fill their tables, are compiled in the browser: without 'unsafe-eval' a
#: page says "Loading..." for ever. Its one script in each page is let run by a nonce, for it writes descriptions and
#: errors of jobs into the page as they are. Bootstrap's arrows and switches are pictures in its stylesheet.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SCRIPT: Final = '<script type="text/javascript">'
#: What would be refused is not offered: the pages would not even say that nothing came of it.
_STYLE: Final = """<style>
#compact-btn, #requeue-all-btn, #requeue-job-btn, [data-role=requeue-job-btn] { display: none !important }
</style>"""


class _Job(jobs.AllowedJob):
    """A job whose arguments are JSON, wherever rq-dashboard forgets to say so."""

    @classmethod
    def fetch(cls, id: str, connection: Redis | None = None, serializer: Any = JSONSerializer) -> Job:  # noqa: A002, ANN401 - RQ's signature
        return super().fetch(id, connection=connection, serializer=serializer)


class _Worker(Worker):
    """Likewise for the jobs that workers are at."""

    @classmethod
    def all(cls, connection: Redis, **_: Any) -> list[Any]:  # type: ignore[override]  # rq-dashboard gives nothing else  # noqa: ANN401 - RQ's signature
        return super().all(connection, job_class=_Job, serializer=JSONSerializer)


def create_dashboard(
    redis_url: str, password: str, *, guesses: Rate | None = None, whose: Callable[[], str] = str
) -> Flask:
    """The application; without a password it lets everybody in. Connects to nothing yet.

    ``guesses`` is how many wrong passwords one may offer, and ``whose`` for whom they count.
    """
    app = Flask("signalcraft.web.dashboard", static_folder=rq_dashboard.blueprint.static_folder)
    # Shown on its pages as the name of the instance; nothing connects to it, see below.
    app.config["RQ_DASHBOARD_REDIS_URL"] = ("redis://signalcraft",)
    app.config["RQ_DASHBOARD_DISABLE_DELETE"] = True
    app.redis_conn = _connect(redis_url)  # type: ignore[attr-defined]  # where rq-dashboard looks for it
    pages.config.serializer = JSONSerializer
    pages.Job, pages.Worker = _Job, _Worker
    _keep_connection()
    app.before_request(lambda: _authenticate(password, guesses, whose))
    app.before_request(_begin_with_alerts)
    app.register_error_handler(TooManyRequests, _answer_too_many)
    app.register_error_handler(NoSuchJobError, _answer_gone)
    app.register_error_handler(RedisError, _answer_outage)
    app.after_request(_adapt)
    app.register_blueprint(rq_dashboard.blueprint)
    app.wsgi_app = _ConcurrencyLimit(app.wsgi_app)  # type: ignore[method-assign]  # as Flask's documentation says
    return app


def _connect(redis_url: str) -> Redis:
    """A pool of two connections that fail soon, apart from those that deliveries come in by."""
    pool = redis_clients.for_web(redis_url).connection_pool
    few = BlockingConnectionPool(  # type: ignore[no-untyped-call]  # redis's
        connection_class=pool.connection_class,
        max_connections=MAX_REQUESTS,
        timeout=1,
        **pool.connection_kwargs,
    )
    return Redis(connection_pool=few)


def _keep_connection() -> None:
    """Take out what would connect anew, and never let go, on each request that names an instance."""
    before = rq_dashboard.blueprint.before_request_funcs.get(None, [])
    if pages.push_rq_connection in before:
        before.remove(pages.push_rq_connection)


def _authenticate(password: str, guesses: Rate | None, whose: Callable[[], str]) -> Response | None:
    """Past the limit the right password is refused too: else who goes on guessing would be told which it is."""
    offered = auth.password(request)
    if password and offered and guesses:
        guesses.check(whose())
    if password and not hmac.compare_digest(password.encode(), offered.encode(errors="surrogateescape")):
        if offered and guesses:
            guesses.hit(whose())
        return Response("A password is needed.\n", 401, {"WWW-Authenticate": 'Basic realm="queues"'})
    if request.method not in ("GET", "HEAD") or (request.endpoint and request.endpoint not in _PAGES):
        abort(Response("Only to be looked at.\n", 403))
    return None


def _begin_with_alerts() -> None:
    """Where no queue is named, rq-dashboard shows "default", and of that one we have none: no jobs, it would say."""
    if request.endpoint == "rq_dashboard.jobs_overview" and request.view_args and not request.view_args["queue_name"]:
        request.view_args["queue_name"] = jobs.ALERTS


def _answer_too_many(refusal: TooManyRequests) -> Response:
    return Response("Too many wrong passwords.\n", refusal.status, refusal.headers)


def _answer_gone(_: Exception) -> Response:
    return Response(
        "There is no such job any more: what is worked off is gone from Redis.\n", 404, mimetype="text/plain"
    )


def _answer_outage(_: Exception) -> Response:
    return Response("Redis cannot be reached.\n", 503, {"Retry-After": "5"}, mimetype="text/plain")


def _adapt(response: Response) -> Response:
    """Add our headers, and to a page what it needs to work under them."""
    nonce = secrets.token_urlsafe(16)
    if response.mimetype == "text/html":
        page = response.get_data(as_text=True)
        response.set_data(
            page.replace(_SCRIPT, f'<script nonce="{nonce}">').replace("</head>", f"{_STYLE}</head>", 1),
        )
    for name, value in {**_HEADERS, "Content-Security-Policy": _POLICY.format(nonce=nonce)}.items():
        response.headers.setdefault(name, value)
    return response


class _ConcurrencyLimit:
    """Serves some requests at a time and turns the others away at once; but for files, of which a page loads six."""

    def __init__(self, application: Any) -> None:  # noqa: ANN401 - WSGI's
        self._application = application
        self._places = threading.BoundedSemaphore(MAX_REQUESTS)

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:  # noqa: ANN401 - WSGI's
        if environ.get("PATH_INFO", "").startswith("/static/"):
            files: Iterable[bytes] = self._application(environ, start_response)
            return files
        if not self._places.acquire(blocking=False):
            return Response("Busy.\n", 503, {"Retry-After": "1"})(environ, start_response)
        try:
            answer: Iterable[bytes] = self._application(environ, start_response)
        finally:
            self._places.release()
        return answer
