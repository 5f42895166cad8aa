"""Who asks for a page, and whether a form is one of ours."""

from typing import Final
from urllib.parse import quote, urlsplit

from flask import Response, g, redirect, request
from werkzeug.wrappers import Response as WerkzeugResponse

from signalcraft.domain.errors import BadToken, ForeignForm, NotAllowed, QueueUnavailable
from signalcraft.ingest.credential_cache import Caller
from signalcraft.ui import context
from signalcraft.ui.session import RENEWAL_SECONDS, SESSION_SECONDS, Session

#: Browsers keep a cookie of this prefix only over https, for this host alone: no subdomain can plant one.
_SECURE_COOKIE: Final = "__Host-signalcraft"
#: Over http on this machine, where browsers refuse that prefix.
_LOOPBACK_COOKIE: Final = "signalcraft"
_LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_SAME_ORIGIN: Final = "same-origin"
_OTHER_SITES: Final = frozenset({"cross-site", "same-site"})

#: Endpoints that need no session.
_OPEN_ENDPOINTS: Final = frozenset({"pages.show_asset", "pages.sign_in.show_login", "pages.sign_in.log_in"})


def check_origin() -> None:
    """Refuse a form that another site sent.

    Raises:
        ForeignForm: the browser says that another site did.
    """
    if request.method != "POST":
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    public_host = urlsplit(context.current().settings.public_url).netloc
    if site not in (None, _SAME_ORIGIN) or (
        origin is not None and _host_of(origin) not in {request.host, public_host} - {""}
    ):
        raise ForeignForm


def comes_from_another_site() -> bool:
    """Return whether the browser says that another site led here."""
    return request.headers.get("Sec-Fetch-Site") in _OTHER_SITES


def authenticate() -> WerkzeugResponse | None:
    """Find the session's caller, or ask to sign in; count the request against RATELIMIT_API.

    Raises:
        BadToken: a form was sent without a session, or with one that has ended.
        ForeignForm: a form has no token of this session.
        TooManyRequests: the session's token is over its limit.
    """
    if request.endpoint in _OPEN_ENDPOINTS:
        return None
    found = _session()
    if found is None:
        if request.method == "POST":
            raise BadToken
        return redirect(f"/login?next={quote(_own_url())}", 303)
    g.session, g.caller = found
    here = context.current()
    here.rate.hit(f"{g.caller.workspace_id}:{g.caller.token}")
    here.credentials.record_call(g.caller)
    if request.method == "POST" and not here.sessions.is_form_token(
        request.form.get("csrf", ""), g.session, request.path
    ):
        raise ForeignForm
    return None


def caller() -> Caller:
    """Return who is signed in."""
    found: Caller = g.caller
    return found


def require_write_scope() -> Caller:
    """Return who is signed in, and may change groups.

    Raises:
        NotAllowed: the session's token is read-only.
    """
    if not caller().can_write:
        raise NotAllowed
    return caller()


def form_token(path: str) -> str:
    """Return the hidden field of forms that are posted to ``path``."""
    return context.current().sessions.form_token(g.session, path)


def begin_session(response: WerkzeugResponse, session: Session) -> None:
    """Give ``response`` the cookie of a new session, whatever session there was."""
    response.set_cookie(
        _cookie_name(),
        context.current().sessions.write(session),
        max_age=SESSION_SECONDS,
        secure=not _is_loopback(),
        httponly=True,
        samesite="Lax",
    )


def renew_session(response: Response) -> Response:
    """Give a session that is used a new cookie from time to time: it ends twelve hours after its last use.

    That a page which is open refreshes itself is no use: a browser says of a person's request that it navigates.
    """
    is_refresh = "If-None-Match" in request.headers and request.headers.get("Sec-Fetch-Mode") != "navigate"
    if g.get("renews_session") and not is_refresh:
        begin_session(response, g.session)
    return response


def end_session() -> bool:
    """End the session: its cookie signs in no more, wherever it is kept.

    Return False while Redis is unavailable: then only this browser forgets it.
    """
    g.renews_session = False
    try:
        context.current().used_once.use(g.session.nonce, seconds=SESSION_SECONDS)
    except QueueUnavailable:
        return False
    return True


def forget_session(response: WerkzeugResponse) -> None:
    """Let the browser forget the session, and the pages that it kept."""
    response.headers["Clear-Site-Data"] = '"cache"'
    response.delete_cookie(_cookie_name(), secure=not _is_loopback(), httponly=True, samesite="Lax")


def _session() -> tuple[Session, Caller] | None:
    """Return the session of the request's cookie, and its caller.

    Before a form is acted on, the credentials are refreshed: the token may have been revoked a moment ago.
    """
    here = context.current()
    read = here.sessions.read(request.cookies.get(_cookie_name(), ""))
    if read is None:
        return None
    session, age = read
    if request.method == "POST":
        here.credentials.refresh()
    found = here.credentials.caller_of_token(session.token_id)
    if found is None or _has_ended(session):
        return None
    if not session.token_id and session.proof != here.sessions.proof(here.settings.api_token):
        return None
    g.renews_session = age.total_seconds() > RENEWAL_SECONDS
    return session, found


def _has_ended(session: Session) -> bool:
    try:
        return context.current().used_once.is_used(session.nonce)
    except QueueUnavailable:
        return False


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # brackets that hold no address
        return ""


def _own_url() -> str:
    return f"{request.path}?{request.query_string.decode('ascii', 'replace')}" if request.query_string else request.path


def _cookie_name() -> str:
    return _LOOPBACK_COOKIE if _is_loopback() else _SECURE_COOKIE


def _is_loopback() -> bool:
    return request.scheme == "http" and urlsplit(f"//{request.host}").hostname in _LOOPBACK_HOSTS
