"""Routes of the list of groups: show it, and change many groups."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import parse_qsl

from flask import Blueprint, Response, g, redirect, render_template, request
from flask.typing import ResponseReturnValue
from marshmallow import ValidationError
from werkzeug.datastructures import MultiDict

from signalcraft.domain.deliveries import MAX_ID
from signalcraft.domain.errors import RecoverableError
from signalcraft.groups import user_updates
from signalcraft.groups.reading.requests import Args
from signalcraft.groups.user_updates import MAX_BULK, GroupUpdate
from signalcraft.storage.database import session
from signalcraft.ui import actions, alert_list, assets, auth, context, formats
from signalcraft.ui.alert_list import AlertList

alerts = Blueprint("alerts", __name__)


@alerts.get("/alerts")
def show_alerts() -> ResponseReturnValue:
    """Show a page of the list of groups; 304 if it is as the browser has it."""
    now = datetime.now(UTC)
    with session():
        found = _read(request.args, now)
        tag = found.tag(now.replace(minute=0, second=0, microsecond=0), g.session.nonce, assets.release())
        if request.if_none_match.contains_weak(tag):
            return tagged(Response(status=HTTPStatus.NOT_MODIFIED), tag)
        page = _render(found, now, tag=tag, done=request.args.get("done", ""))
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
            page = _render(_read(back, now), now, done=done, ticked=ids, refused=reasons)
            return Response(page, status=HTTPStatus.CONFLICT)
    query = alert_list.query_string([*back.items(multi=True), ("done", done)])
    return redirect(f"/alerts{query}", HTTPStatus.SEE_OTHER)


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


def _render(
    found: AlertList,
    now: datetime,
    *,
    tag: str = "",
    done: str = "",
    ticked: Collection[int] = (),
    refused: Mapping[int, str] | None = None,
) -> str:
    shown = {row["id"] for row in found.rows}
    return render_template(
        "alerts.html",
        list=found,
        hours=alert_list.hours_of(found, auth.caller().workspace_id, now=now),
        tag=tag,
        done=_done_words(done),
        ticked=set(ticked) & set(refused or {}),
        refused=refused or {},
        elsewhere={group_id: reason for group_id, reason in (refused or {}).items() if group_id not in shown},
        snoozes=actions.SNOOZES,
        **alert_list.choices(),
    )


def _done_words(done: str) -> str:
    """Return what was done, in words; empty for anything but our own."""
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
