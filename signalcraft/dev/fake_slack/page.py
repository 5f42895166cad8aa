"""The page that shows the channels of the fake as Slack does, with buttons that can be pressed."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from flask import Flask, Response, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as Redirect

from signalcraft.dev.fake_slack import markup
from signalcraft.dev.fake_slack.workspace import FakeSlack

#: A title may be hostile, and this page may stand open on a developer's machine.
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_COLOUR: Final = re.compile(r"#?([0-9A-Fa-f]{6})")
_COLOURS: Final[Mapping[str, str]] = {"good": "#2eb886", "warning": "#daa038", "danger": "#a30200"}


def add(app: Flask, slack: FakeSlack) -> None:
    """Add the page's routes and filters to ``app``."""
    app.jinja_env.globals |= {"slack": slack, "link": markup.link, "emoji": markup.emoji, "date": markup.date}
    app.jinja_env.filters |= {
        "mrkdwn": markup.shown,
        "plain": markup.shown_plain,
        "clock": _clock,
        "colour": _colour,
    }
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True

    @app.get("/")
    def index() -> str:
        return render_template("index.html")

    @app.get("/channels/<name>")
    def channel(name: str) -> str:
        try:
            return render_template("channel.html", channel=slack.channel(name))
        except KeyError:
            abort(HTTPStatus.NOT_FOUND)

    @app.post("/channels/<name>")
    def press(name: str) -> Redirect:
        return _press(slack, name, request.form)

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(_HEADERS)
        return response


def _press(slack: FakeSlack, name: str, form: Mapping[str, str]) -> Redirect:
    """Press what the form names, and show the channel."""
    try:
        message = slack.channel(name).by_ts[form["ts"]]
        press = slack.press(message, form["action_id"], value=form.get("value"), option=form.get("option"))
    except LookupError:
        abort(HTTPStatus.CONFLICT, "This message has changed meanwhile: go back to see it.")
    if press.is_refused:
        said = f"responded with status code {press.status}" if press.status else "did not respond"
        slack.whisper(message.channel_id, press.user, f":warning: This app {said}.", message.ts)
    return redirect(url_for("channel", name=name, _anchor=f"m{message.ts}"), HTTPStatus.SEE_OTHER)


def _clock(ts: str) -> str:
    return f"{datetime.fromtimestamp(float(ts), UTC):%H:%M}"


def _colour(value: Any) -> str:  # noqa: ANN401 - JSON
    """Return the colour of an attachment's bar, as CSS has it."""
    match = _COLOUR.fullmatch(str(value or ""))
    return f"#{match[1]}" if match else _COLOURS.get(str(value), "#9a9a9a")
