"""Routes to sign in, by a token or a link, and out."""

from typing import Final

from flask import Blueprint, g, redirect, render_template, request
from flask.typing import ResponseReturnValue

from signalcraft.domain.errors import BadToken, QueueUnavailable, Unavailable
from signalcraft.ingest.credential_cache import Caller
from signalcraft.ui import auth, context, errors
from signalcraft.ui.session import SignInLink

_HOME: Final = "/alerts"
#: What a browser takes for the beginning of another host.
_HOST_BEGINS: Final = ("//", "/\\")

_COPIES_LAST: Final = (
    "You are signed out in this browser. Redis is unavailable, so a copy of the session that is kept elsewhere stays "
    "valid for up to twelve hours after its last use. Revoke its token to end it now."
)

sign_in = Blueprint("sign_in", __name__)


@sign_in.get("/login")
def show_login() -> ResponseReturnValue:
    """Show the form to sign in; with ``link``, sign in by it, or ask first if another site led here."""
    link = request.args.get("link")
    if link is not None and request.method == "GET":  # a HEAD, such as a preview's, uses nothing up
        return _follow_link(link, asks=auth.comes_from_another_site())
    words = _COPIES_LAST if request.args.get("copies") == "last" else ""
    return render_template("login.html", next=own_path(request.args.get("next", "")), login_words=words)


@sign_in.post("/login")
def log_in() -> ResponseReturnValue:
    """Sign in with a token of the API, or by a link."""
    if "link" in request.form:
        return _follow_link(request.form["link"], asks=False)
    here, token = context.current(), request.form.get("token", "").strip()
    target = own_path(request.values.get("next", ""))
    found = here.credentials.caller(token) if token else None
    if found is None and token:
        here.credentials.refresh()
        found = here.credentials.caller(token)
    if found is None:
        words = "This token is not known here. It may be mistyped or revoked." if token else "Enter a token."
        return _refuse(words, target)
    return _signed_in(found, target, environment_token=token)


@sign_in.post("/logout")
def log_out() -> ResponseReturnValue:
    """End the session."""
    response = redirect("/login" if auth.end_session() else "/login?copies=last", 303)
    auth.forget_session(response)
    return response


def own_path(path: str) -> str:
    """Return ``path`` if it is a path of ours, else that of the list.

    Browsers take a backslash for a slash, and skip tabs and line ends.
    """
    is_own = path.startswith("/") and not path.startswith(_HOST_BEGINS) and path.isprintable()
    return path if is_own else _HOME


def _follow_link(text: str, *, asks: bool) -> ResponseReturnValue:
    """Sign in by a link, once; or ask whether to, with a button."""
    here = context.current()
    link = here.sessions.read_link(text)
    if link is None:
        return _refuse("This link has expired, or is not complete.", _HOME)
    found = _caller_of(link)
    if found is None:
        return _refuse("The token of this link was revoked.", _HOME)
    if asks:
        return render_template("login_link.html", link=text, name=found.token, workspace=found.workspace)
    try:
        is_first = here.used_once.use(link.nonce, seconds=here.sessions.seconds_left(link))
    except QueueUnavailable:
        words = "Redis is unavailable, so it is not known whether this link was used. It still works later."
        return errors.page_of(Unavailable(), template="login.html", next=_HOME, login_words=words)
    if not is_first:
        return _refuse("This link has been used: it signs in once.", _HOME)
    return _signed_in(found, _HOME, environment_token=here.settings.api_token)


def _caller_of(link: SignInLink) -> Caller | None:
    credentials = context.current().credentials
    found = credentials.caller_of_token(link.token_id)
    if found is None:  # made a moment ago
        credentials.refresh()
        found = credentials.caller_of_token(link.token_id)
    return found


def _signed_in(caller: Caller, target: str, *, environment_token: str) -> ResponseReturnValue:
    """Begin a session that owes nothing to what the browser sent, and go to ``target``."""
    g.caller = caller
    session = context.current().sessions.begin(
        token_id=caller.token_id, name=caller.token, environment_token=environment_token
    )
    response = redirect(target, 303)
    auth.begin_session(response, session)
    return response


def _refuse(words: str, target: str) -> ResponseReturnValue:
    """Show the form again with ``words``; count the attempt against the address."""
    if too_many := errors.over_limit():
        return errors.page_of(too_many)
    return errors.page_of(BadToken(), template="login.html", next=target, login_words=words)
