"""Routes of the list of groups: show it, change many groups, save and delete views of it."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl

from flask import Blueprint, Response, g, redirect, render_template, request
from flask.typing import ResponseReturnValue
from marshmallow import ValidationError
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as WerkzeugResponse

from signalcraft.domain.deliveries import MAX_ID
from signalcraft.domain.errors import Conflict, InvalidFields, NotFound, RecoverableError
from signalcraft.groups import saved_views, user_updates
from signalcraft.groups.reading.requests import Args
from signalcraft.groups.user_updates import MAX_BULK, GroupUpdate
from signalcraft.storage.database import session
from signalcraft.ui import actions, alert_list, assets, auth, context, errors, formats
from signalcraft.ui.alert_list import AlertList

alerts = Blueprint("alerts", __name__)

_VIEW_DONE: Final[Mapping[str, str]] = {"save-view": "View saved.", "delete-view": "View deleted."}


@alerts.get("/alerts")
def show_alerts() -> ResponseReturnValue:
    """Show a page of the list of groups; 304 if it is as the browser has it."""
    now = datetime.now(UTC)
    with session():
        found = _read(request.args, now)
        tag = found.tag(now.replace(minute=0, second=0, microsecond=0), g.session.nonce, assets.release())
        if request.if_none_match.contains_weak(tag):
            return tagged(Response(status=HTTPStatus.NOT_MODIFIED), tag)
        page = render_template("alerts.html", **_values(found, now, tag=tag, done=request.args.get("done", "")))
    return tagged(Response(page), tag)


@alerts.post("/alerts/bulk")
def change_alerts() -> ResponseReturnValue:
    """Do one thing to the ticked groups; show those that it cannot be done to, still ticked.

    Once it is done, no error says otherwise: a list that cannot be shown is refused before, or shown later.
    """
    caller, now, form, here = auth.require_write_scope(), datetime.now(UTC), request.form, context.current()
    back = _args_of(form.get("back", ""))
    alert_list.parse(back, caller.workspace_id, cursors=here.cursors, vocabulary=here.settings.vocabulary)
    ids, fields = _ticked(form.getlist("ids")), actions.fields_of(form, now=now)
    with session():
        results = user_updates.update_groups(
            caller.workspace_id, ids, GroupUpdate(fields=fields, by=caller.token, at=now)
        )
    here.wake_notifier()
    refused = {result.group_id: result.refusal for result in results if result.refusal is not None}
    done = f"{form['action']}-{len(ids) - len(refused)}"
    if refused:
        reasons = {group_id: refusal.detail or refusal.title for group_id, refusal in refused.items()}
        with suppress(RecoverableError), session():
            values = _values(_read(back, now), now, done=done, ticked=ids, refused=reasons)
            return Response(render_template("alerts.html", **values), status=HTTPStatus.CONFLICT)
    return _back_to(back, done)


@alerts.post("/views")
def save_view() -> ResponseReturnValue:
    """Save the list as a view; if it cannot be, show the list and say why."""
    caller, now, here = auth.require_write_scope(), datetime.now(UTC), context.current()
    back, name = _args_of(request.form.get("back", "")), " ".join(request.form.get("name", "").split())
    given, _, _ = alert_list.parse(back, caller.workspace_id, cursors=here.cursors, vocabulary=here.settings.vocabulary)
    query = alert_list.view_query(given)
    with session():
        try:
            saved_views.save(caller.workspace_id, name, query)
        except (Conflict, InvalidFields) as refusal:
            return errors.page_of(refusal, template="alerts.html", view_name=name, **_values(_read(back, now), now))
    return _back_to(_args_of(query), "save-view")


@alerts.post("/views/<view>/delete")
def delete_view(view: str) -> ResponseReturnValue:
    """Delete a view, and show the list that it was."""
    caller = auth.require_write_scope()
    if not is_number(view):
        raise NotFound
    with session():
        saved_views.delete(caller.workspace_id, int(view))
    return _back_to(_args_of(request.form.get("back", "")), "delete-view")


def tagged(response: Response, tag: str) -> Response:
    """Return ``response`` with its tag, to be asked for again each time."""
    response.set_etag(tag, weak=True)
    response.headers["Cache-Control"] = "private, no-cache"
    return response


def is_number(text: str) -> bool:
    """Return whether ``text`` is a number that an id or a version may be."""
    return text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) <= MAX_ID


def _read(args: Args, now: datetime) -> AlertList:
    here = context.current()
    return alert_list.read(
        args, auth.caller().workspace_id, cursors=here.cursors, vocabulary=here.settings.vocabulary, now=now
    )


def _values(
    found: AlertList,
    now: datetime,
    *,
    tag: str = "",
    done: str = "",
    ticked: Collection[int] = (),
    refused: Mapping[int, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return what ``alerts.html`` shows."""
    shown = {row["id"] for row in found.rows}
    return {
        "list": found,
        "hours": alert_list.hours_of(found, auth.caller().workspace_id, now=now),
        "assignee": alert_list.assignee_of(auth.caller()),
        "tag": tag,
        "done": _done_words(done),
        "ticked": set(ticked) & set(refused),
        "refused": refused,
        "elsewhere": {group_id: reason for group_id, reason in refused.items() if group_id not in shown},
        "snoozes": actions.SNOOZES,
        "max_view_name": saved_views.MAX_NAME_LENGTH,
        **alert_list.choices(),
    }


def _back_to(args: Args, done: str) -> WerkzeugResponse:
    """Lead to a list, which says what was done."""
    query = alert_list.query_string([*args.items(multi=True), ("done", done)])
    return redirect(f"/alerts{query}", HTTPStatus.SEE_OTHER)


def _done_words(done: str) -> str:
    """Return what was done, in words; empty for anything but our own."""
    if done in _VIEW_DONE:
        return _VIEW_DONE[done]
    action, _, number = done.partition("-")
    if action not in actions.DONE or not (number.isascii() and number.isdecimal() and len(number) <= 4):
        return ""
    return f"{formats.plural(int(number), 'group')} {actions.DONE[action]}."


def _ticked(texts: Collection[str]) -> list[int]:
    """Return the ids of the ticked groups.

    Raises:
        marshmallow.ValidationError: none is ticked, too many are, or one is no id.
    """
    ids = [int(text) for text in dict.fromkeys(texts) if is_number(text)]
    if not 0 < len(ids) <= MAX_BULK:
        raise ValidationError({"ids": [f"Tick 1 to {MAX_BULK} groups first."]})
    return ids


def _args_of(query: str) -> Args:
    """Return the parameters of the list that a form came from."""
    return MultiDict(pair for pair in parse_qsl(query.removeprefix("?")) if pair[0] != "done")
