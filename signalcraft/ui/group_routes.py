"""Routes of one group: show it, change it, show one of its events."""

import hashlib
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from flask import Blueprint, Response, g, redirect, render_template, request
from flask.typing import ResponseReturnValue
from marshmallow import ValidationError

from signalcraft.domain.errors import Conflict, InvalidFields, NotFound, PreconditionFailed, Refusal
from signalcraft.groups import user_updates
from signalcraft.groups.reading import event_queries, queries
from signalcraft.groups.reading.pages import Position
from signalcraft.groups.reading.request_fields import MAX_NOTE_LENGTH
from signalcraft.groups.user_updates import GroupUpdate
from signalcraft.storage.database import session
from signalcraft.ui import actions, assets, auth, context, group_page
from signalcraft.ui.alert_routes import is_number, tagged
from signalcraft.ui.errors import field_errors, page_of
from signalcraft.ui.group_page import GroupPage

#: A string, so that what is no id is a page that says so too.
_GROUP: Final = "/alerts/<group>"

groups = Blueprint("groups", __name__)


@groups.get(_GROUP)
def show_group(group: str) -> ResponseReturnValue:
    """Show a group; 304 if it is as the browser has it."""
    now = datetime.now(UTC)
    with session():
        found = _read(_id(group), now)
    tag = _tag(found, now)
    if request.if_none_match.contains_weak(tag):
        return tagged(Response(status=HTTPStatus.NOT_MODIFIED), tag)
    return tagged(Response(render_template("group.html", tag=tag, **_values(found))), tag)


@groups.post(_GROUP)
def change_group(group: str) -> ResponseReturnValue:
    """Change a group and show it; if it has changed since the form was made, say what."""
    caller, now, group_id = auth.require_write_scope(), datetime.now(UTC), _id(group)
    try:
        update = GroupUpdate(fields=actions.fields_of(request.form, now=now), by=caller.token, at=now)
        with session():
            user_updates.update_group(caller.workspace_id, group_id, update, versions={_version()})
    except (PreconditionFailed, Conflict) as refusal:
        return _refused(group_id, refusal, now)
    except ValidationError as error:
        words = " ".join(text for texts in field_errors(error).values() for text in texts)
        return _refused(group_id, InvalidFields(words), now)
    context.current().wake_notifier()
    return redirect(f"/alerts/{group_id}", HTTPStatus.SEE_OTHER)


@groups.get(f"{_GROUP}/events/<event>")
def show_event(group: str, event: str) -> ResponseReturnValue:
    """Show one event of a group."""
    workspace_id, group_id, now = auth.caller().workspace_id, _id(group), datetime.now(UTC)
    with session():
        found = queries.group(workspace_id, group_id, now=now)
        row = event_queries.event(workspace_id, _id(event))
        if found is None or row is None or row["alert_group_id"] != group_id:
            raise NotFound
        position = Position(value=row["received_at"], id=row["id"])
        older = event_queries.events_of_group(workspace_id, group_id, limit=1, after=position)
    raw, cut = group_page.raw_body(row, group_page.MAX_EVENT_RAW_CHARACTERS)
    return render_template(
        "event.html", group=found, event=row, raw=raw, cut=cut, max_tags=group_page.MAX_EVENT_TAGS,
        older=older.rows[0] if older.rows else None,
    )  # fmt: skip


def _read(group_id: int, now: datetime) -> GroupPage:
    window = context.current().settings.grouping_policy.window
    found = group_page.read(auth.caller().workspace_id, group_id, window=window, now=now)
    if found is None:
        raise NotFound
    return found


def _values(found: GroupPage) -> dict[str, object]:
    raw, cut = group_page.raw_body(found.event, group_page.MAX_RAW_CHARACTERS) if found.event else ("", 0)
    return {
        "page": found,
        "group": found.group,
        "event": found.event,
        "raw": raw,
        "cut": cut,
        "max_tags": group_page.MAX_TAGS,
        "snoozes": actions.SNOOZES,
        "max_note": MAX_NOTE_LENGTH,
    }


def _refused(group_id: int, refusal: Refusal, now: datetime) -> Response:
    """Show the group as it is now, why it was not changed, and what was changed meanwhile."""
    seen = request.form.get("seen", "")
    with session():
        found = _read(group_id, now)
    meanwhile = found.changes_since(int(seen)) if is_number(seen) else []
    return page_of(refusal, template="group.html", tag="", meanwhile=meanwhile, form=request.form, **_values(found))


def _tag(found: GroupPage, now: datetime) -> str:
    hour = now.replace(minute=0, second=0, microsecond=0)
    parts = (found.tag, hour, g.session.nonce, assets.release())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def _version() -> int:
    version = request.form.get("version", "")
    if not is_number(version):
        raise ValidationError({"version": ["The form names no version of the group."]})
    return int(version)


def _id(text: str) -> int:
    """Return an id of a path.

    Raises:
        NotFound: it is none.
    """
    if not is_number(text):
        raise NotFound
    return int(text)
