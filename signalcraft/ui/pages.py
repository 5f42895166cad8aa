"""The blueprint of all pages: who may see them, their headers, their errors."""

from flask import Blueprint, Response
from flask.blueprints import BlueprintSetupState
from marshmallow import ValidationError

from signalcraft.domain.errors import RecoverableError, Refusal, ThreadsExhausted
from signalcraft.ui import auth, errors, formats
from signalcraft.ui.alert_routes import alerts
from signalcraft.ui.assets import asset_url, show_asset
from signalcraft.ui.group_routes import groups
from signalcraft.ui.sign_in_routes import sign_in
from signalcraft.ui.system_routes import system

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, the Origin of our own forms would be null
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

pages = Blueprint("pages", __name__, template_folder="templates")
pages.before_request(auth.check_origin)
pages.before_request(auth.authenticate)
pages.get("/assets/<name>")(show_asset)
for _blueprint in (sign_in, alerts, groups, system):
    pages.register_blueprint(_blueprint)
for _error in (Refusal, ValidationError, RecoverableError, ThreadsExhausted, Exception):
    pages.register_error_handler(_error, errors.error_page)


@pages.after_request
def add_headers(response: Response) -> Response:
    """Add what protects a page, and renew the session's cookie."""
    for name, value in _HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "private, no-store")
    return auth.renew_session(response)


@pages.record
def name_for_templates(state: BlueprintSetupState) -> None:
    """Name what templates use as globals of Jinja: imported macros see no other names."""
    state.app.jinja_env.globals.update(formats.NAMES, asset_url=asset_url, form_token=auth.form_token)
