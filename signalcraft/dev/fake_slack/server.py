"""The fake's HTTP server: the Web API, its control, and the faults that a connection can have."""

import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from http import HTTPStatus
from io import BytesIO
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from flask import Flask, Response, abort, jsonify, request
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import run_wsgi_app

from signalcraft.dev.fake_slack import methods, page
from signalcraft.dev.fake_slack.channels import Message
from signalcraft.dev.fake_slack.faults import Fault, FaultKind, RateLimit
from signalcraft.dev.fake_slack.methods import RateLimitedError
from signalcraft.dev.fake_slack.workspace import FakeSlack, Press

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_API: Final = "/api/"
_RESET: Final = struct.pack("ii", 1, 0)


@contextmanager
def serving(slack: FakeSlack | None = None, port: int = 0) -> Iterator[FakeSlack]:
    """Serve ``slack`` on this machine during the block; a free port if ``port`` is 0."""
    slack = slack or FakeSlack()
    server = make_server("127.0.0.1", port, _create_app(slack), threaded=True, request_handler=_Handler)
    slack.root = f"http://127.0.0.1:{server.port}/"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield slack
    finally:
        slack.stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002, ANN401 - werkzeug's signature
        """Write no line for each request."""


def _create_app(slack: FakeSlack) -> "WSGIApplication":
    app = Flask(__name__)
    app.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost"]  # a page of another name may resolve to this machine
    app.json.sort_keys = False  # type: ignore[attr-defined] # of Flask's own provider
    app.post(f"{_API}<method>", endpoint="api")(_api_of(slack))
    app.post("/actions/<team>/<name>", endpoint="respond")(_responses_of(slack))
    _add_control(app, slack)
    page.add(app, slack)
    return _with_faults(app.wsgi_app, slack)


def _api_of(slack: FakeSlack) -> Any:  # noqa: ANN401 - Flask's view
    def api(method: str) -> Response:
        arguments = _arguments()
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        token = token if scheme == "Bearer" else str(arguments.pop("token", ""))
        try:
            response = jsonify(methods.call(slack, method, token, arguments))
        except RateLimitedError as error:
            return _rate_limited(error.seconds)
        response.headers["x-oauth-scopes"] = ",".join(sorted(slack.scopes))
        return response

    return api


def _arguments() -> dict[str, Any]:
    if request.mimetype == "application/json":
        return dict(request.get_json())
    return request.values.to_dict()


def _rate_limited(seconds: int) -> Response:
    response = jsonify(ok=False, error="ratelimited")
    response.status_code = 429
    response.headers["retry-after"] = str(seconds)
    return response


def _responses_of(slack: FakeSlack) -> Any:  # noqa: ANN401 - Flask's view
    def respond(team: str, name: str) -> tuple[str, int]:  # noqa: ARG001 - part of the path, as Slack's is
        return ("ok", 200) if slack.respond(name, request.get_json()) else ("expired_url", 404)

    return respond


def _add_control(app: Flask, slack: FakeSlack) -> None:
    """Add what other processes switch the fake with: see docs/slack.md."""

    @app.get("/control")
    def state() -> Response:
        with slack.lock:
            return jsonify(
                channels={each.name: list(map(_shown, each.messages)) for each in slack.channels.values()},
                ephemerals=[asdict(each) for each in slack.ephemerals],
                calls=[{"method": call.method, "error": call.error} for call in slack.calls],
            )

    @app.post("/control/faults")
    def add_fault() -> tuple[str, int]:
        try:
            slack.faults.add(Fault(**request.get_json()))
        except (TypeError, ValueError) as error:
            abort(HTTPStatus.BAD_REQUEST, str(error))
        return "", 204

    @app.delete("/control/faults")
    def clear_faults() -> tuple[str, int]:
        slack.faults.clear()
        return "", 204

    @app.put("/control/settings")
    def change_settings() -> tuple[str, int]:
        _change(slack, request.get_json())
        return "", 204

    @app.post("/control/press")
    def press_for_a_program() -> Response:
        wanted = request.get_json()
        try:
            message = slack.channel(wanted.pop("channel")).by_ts[wanted.pop("ts")]
            return jsonify(_outcome(slack.press(message, **wanted)))
        except (LookupError, TypeError) as error:
            abort(HTTPStatus.BAD_REQUEST, str(error))


def _shown(message: Message) -> dict[str, Any]:
    return {
        **message.as_json(with_metadata=True),
        "edits": message.edits,
        "is_broadcast": message.is_broadcast,
        "pings": [asdict(each) for each in message.pings],
        "links": [asdict(each) for each in message.links],
    }


def _outcome(press: Press) -> dict[str, Any]:
    return {"status": press.status, "body": press.body, "seconds": press.seconds}


def _change(slack: FakeSlack, settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        match name:
            case "rate_limit":
                slack.rate_limit = RateLimit() if value else None
            case "scopes":
                slack.scopes = set(value)
            case "token" | "signing_secret" | "request_url":
                setattr(slack, name, str(value))


def _with_faults(app: "WSGIApplication", slack: FakeSlack) -> "WSGIApplication":
    """Put the faults before the Web API."""

    def with_faults(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = str(environ["PATH_INFO"])
        fault = slack.faults.take(path.removeprefix(_API)) if path.startswith(_API) else None
        if fault is None:
            return app(environ, start_response)
        environ["wsgi.input"] = BytesIO(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        if fault.is_accepted:
            run_wsgi_app(app, environ, buffered=True)
        return _answer_of(fault, slack, environ["werkzeug.socket"])(environ, start_response)

    return with_faults


def _answer_of(fault: Fault, slack: FakeSlack, connection: socket.socket) -> Response:
    match fault.kind:
        case FaultKind.RATE_LIMITED:
            body = '{"ok":false,"error":"ratelimited"}'
            return Response(body, 429, {"retry-after": str(fault.retry_after)}, mimetype="application/json")
        case FaultKind.STATUS:
            return Response("upstream connect error", fault.status, mimetype="text/plain")
        case FaultKind.ERROR:
            return Response(f'{{"ok":false,"error":"{fault.error}"}}', 200, mimetype="application/json")
        case FaultKind.HANG:
            slack.stopped.wait(fault.hang_seconds)
    _reset(connection)
    raise ConnectionResetError  # to werkzeug: the client is gone


def _reset(connection: socket.socket) -> None:
    """Close at once and without the farewell of TCP, which would be an answer's end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    os.close(connection.detach())
