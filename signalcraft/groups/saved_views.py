"""Saved views: lists of groups that a workspace has named.

Call everything inside ``database.session()``.
"""

from typing import Final, NamedTuple

from peewee import fn

from signalcraft.domain.errors import Conflict, InvalidFields, NotFound
from signalcraft.groups.reading.request_fields import MAX_URL_LENGTH, is_name
from signalcraft.storage.database import database
from signalcraft.storage.models import SavedView

MAX_VIEWS: Final = 30
MAX_NAME_LENGTH: Final = 60

#: One view is saved at a time: two could both be the last that there is room for. Alerts do not wait for this lock.
_LOCK: Final = "SELECT FROM workspace WHERE id = %s FOR NO KEY UPDATE"


class View(NamedTuple):
    """A name, and the query string of the list that it stands for."""

    id: int
    name: str
    query: str


def views(workspace_id: int) -> list[View]:
    """Return the views of a workspace, by name."""
    rows = SavedView.select().where(SavedView.workspace == workspace_id).order_by(fn.lower(SavedView.name))
    return [View(row.id, row.name, row.query) for row in rows]


def save(workspace_id: int, name: str, query: str) -> None:
    """Save a view under a name that no other view of the workspace has.

    Raises:
        InvalidFields: the name is none, or the query is too long for a link.
        Conflict: the name is taken, or the workspace has as many views as it may.
    """
    if not is_name(name) or len(name) > MAX_NAME_LENGTH:
        raise InvalidFields(f"A name has 1 to {MAX_NAME_LENGTH} characters, none of them a control character.")
    if len(query) > MAX_URL_LENGTH:
        raise InvalidFields(f"The filters of a view have at most {MAX_URL_LENGTH} characters.")
    with database.atomic():
        database.execute_sql(_LOCK, (workspace_id,))
        queries = {view.name: view.query for view in views(workspace_id)}
        if queries.get(name) == query:
            return  # a button that was pressed twice
        if name in queries:
            raise Conflict("There is a view of this name. Choose another name, or delete that view first.")
        if len(queries) >= MAX_VIEWS:
            raise Conflict(f"There are {MAX_VIEWS} views, which is the most. Delete one that is no longer used first.")
        SavedView.insert(workspace=workspace_id, name=name, query=query).execute()


def delete(workspace_id: int, view_id: int) -> None:
    """Delete a view.

    Raises:
        NotFound: the workspace has no such view.
    """
    if not SavedView.delete().where((SavedView.workspace == workspace_id) & (SavedView.id == view_id)).execute():
        raise NotFound
