"""The routes of the API that change groups. A token needs the scope to write."""

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from signalcraft import gate, inputs, schemas, versions
from signalcraft.domain import bounded_json
from signalcraft.domain.errors import NotFound
from signalcraft.groups import queries, user_updates
from signalcraft.groups.user_updates import Edit
from signalcraft.ingest import request as ingest_request
from signalcraft.parts import parts
from signalcraft.storage.database import session

changing = Blueprint("changing", __name__, url_prefix="/api/v1")
changing.before_request(gate.authenticate)


@changing.patch(f"/groups/<int(max={2**63 - 1}):group_id>")
def change_group(group_id: int) -> ResponseReturnValue:
    """Change a group, with If-Match only as it was seen; the group as it is then."""
    caller, now = gate.writer(), datetime.now(UTC)
    inputs.refuse_parameters(request.args)
    edit = Edit(fields=inputs.load_edit(_body(), now=now), by=caller.token, at=now)
    with session():
        user_updates.change(caller.workspace_id, group_id, edit, versions=versions.named_by(request.if_match))
        row = queries.group(caller.workspace_id, group_id, now=now)
    if row is None:
        raise NotFound
    response = jsonify(schemas.dump_group(row))
    response.set_etag(versions.tag(response.get_data(), row["version"]))
    return response


@changing.post("/groups/bulk")
def change_groups() -> ResponseReturnValue:
    """Change many groups in one transaction; what became of each."""
    caller, now = gate.writer(), datetime.now(UTC)
    inputs.refuse_parameters(request.args)
    bulk = inputs.load_bulk_edit(_body(), now=now)
    edit = Edit(fields=bulk.fields, by=caller.token, at=now)
    with session():
        ids, end = bulk.ids, None
        scope = f"bulk of {caller.workspace_id}: {bulk.wanted}"
        if bulk.wanted is not None:
            after = parts().cursors.read(bulk.cursor, scope=scope) if bulk.cursor is not None else None
            found = queries.newest(
                caller.workspace_id, bulk.wanted, limit=user_updates.MOST_AT_ONCE, after=after, now=now
            )
            ids, end = [row["id"] for row in found.rows], found.end
        outcomes = user_updates.change_many(caller.workspace_id, ids, edit, wanted=bulk.wanted)
    following = parts().cursors.write(end, scope=scope) if end else None
    return jsonify(schemas.dump_outcomes(outcomes, next_cursor=following))


def _body() -> dict[str, Any]:
    max_body_bytes = parts().settings.max_body_bytes
    raw = ingest_request.read(request, kept_headers=(), max_body_bytes=max_body_bytes).body
    body = bounded_json.parse(raw)
    bounded_json.check(raw, body)
    return body
