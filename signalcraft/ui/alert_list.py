"""What the list of groups shows: its tab, its filters as chips, its rows, and the links that change them."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from werkzeug.datastructures import MultiDict

from signalcraft.domain.alerts import GroupStatus, Severity, Vocabulary
from signalcraft.groups import saved_views
from signalcraft.groups.reading import activity, queries, requests
from signalcraft.groups.reading.activity import Activity
from signalcraft.groups.reading.cursors import Cursors
from signalcraft.groups.reading.filters import UNASSIGNED
from signalcraft.groups.reading.pages import Position, Row
from signalcraft.groups.reading.queries import Order, SortKey
from signalcraft.groups.reading.request_fields import is_name
from signalcraft.groups.reading.requests import PAGE_PARAMETERS, Args, Listing
from signalcraft.groups.saved_views import View
from signalcraft.ingest.credential_cache import Caller
from signalcraft.ui.formats import STATUS_WORDS

ALL: Final = "all"
#: A page has at most 200 kB.
MAX_ROWS: Final = 100
#: Tabs by the value of ``status``.
TABS: Final[Mapping[str, str]] = {
    **{status: STATUS_WORDS[status] for status in ("open", "ack", "snoozed", "resolved")},
    ALL: "All",
}
#: Parameters that are not filters, and those that only a page has.
_NOT_FILTERS: Final = PAGE_PARAMETERS | {"sort"}
_OF_THE_PAGE: Final = ("done",)
#: Filters with a field of their own in the form.
FIELDS: Final = ("q", "severity_min", "project", "environment", "source", "assignee")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A filter in force, and the query string without it."""

    name: str
    value: str
    without: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertList:
    """A page of the list. ``args`` are the parameters as they were given, ``views`` all of the workspace."""

    args: Args
    listing: Listing
    rows: Sequence[Row]
    next_cursor: str | None
    views: Sequence[View]

    @property
    def tab(self) -> str:
        """The value of ``status``, empty if it is none of a tab."""
        given = self.args.getlist("status")
        return GroupStatus.OPEN if not given else given[0] if len(given) == 1 and given[0] in TABS else ""

    @property
    def order(self) -> Order:
        """The order of the rows."""
        return self.listing.order

    @property
    def query(self) -> str:
        """The query string of this page."""
        return query_string(self.args)

    @property
    def open_views(self) -> Sequence[View]:
        """The views that this list is."""
        own = view_query(self.args)
        return [view for view in self.views if view.query == own]

    @property
    def chips(self) -> Sequence[Chip]:
        """The filters in force."""
        hidden = _NOT_FILTERS | ({"status"} if self.tab else frozenset())
        pairs = list(self.args.items(multi=True))
        return [
            Chip(name=name, value=value, without=query_string(_without_page(pairs[:number] + pairs[number + 1 :])))
            for number, (name, value) in enumerate(pairs)
            if name not in hidden and value
        ]

    @property
    def kept(self) -> Sequence[tuple[str, str]]:
        """The parameters that the form of filters cannot show: other ones, and several values of one."""
        return [
            (name, value)
            for name, value in _without_page(self.args.items(multi=True))
            if name not in FIELDS or not self.field(name)
        ]

    def field(self, name: str) -> str:
        """Return the value of a field of the form, empty if it has none, or several."""
        values = self.args.getlist(name)
        return values[0] if len(values) == 1 else ""

    def with_tab(self, status: str) -> str:
        """Return the query string of another tab."""
        pairs = [pair for pair in _without_page(self.args.items(multi=True)) if pair[0] not in ("status", "current")]
        return query_string([*pairs, ("status", status)] if status != GroupStatus.OPEN else pairs)

    def with_filter(self, name: str, value: str) -> str:
        """Return the query string with one more filter."""
        pairs = [pair for pair in _without_page(self.args.items(multi=True)) if pair[0] != name]
        return query_string([*pairs, (name, value)])

    def with_sort(self, key: str) -> str:
        """Return the query string sorted by ``key``: highest first, and the other way round the second time."""
        ascends = self.order.key == key and self.order.descending
        return self.with_filter("sort", key if ascends else f"-{key}")

    def next_page(self) -> str:
        """Return the query string of the next page."""
        return self.with_filter("cursor", self.next_cursor or "")

    def first_page(self) -> str:
        """Return the query string of the first page."""
        return query_string(_without_page(self.args.items(multi=True)))

    def tag(self, *parts: object) -> str:
        """Return what changes when the page does, apart from how long ago things were."""
        names = ("id", "version", "count", "status", "severity", "title", "assignee_user_id", "last_seen_at")
        rows = [[row[name] for name in names] for row in self.rows]
        content = (rows, self.next_cursor, self.query, self.views, parts)
        return hashlib.sha256(repr(content).encode()).hexdigest()[:24]


def read(args: Args, workspace_id: int, *, cursors: Cursors, vocabulary: Vocabulary, now: datetime) -> AlertList:
    """Return the page of the list that ``args`` ask for. Call it inside ``database.session()``.

    Raises:
        marshmallow.ValidationError: by parameter.
        InvalidCursor: the cursor is not one of this list.
    """
    given, listing, after = parse(args, workspace_id, cursors=cursors, vocabulary=vocabulary)
    limit = min(listing.limit, MAX_ROWS)
    page = queries.groups(workspace_id, listing.group_filter, listing.order, limit=limit, after=after, now=now)
    return AlertList(
        args=given,
        listing=listing,
        rows=page.rows,
        next_cursor=cursors.write(page.end, scope=listing.scope),
        views=saved_views.views(workspace_id),
    )


def parse(
    args: Args, workspace_id: int, *, cursors: Cursors, vocabulary: Vocabulary
) -> tuple[Args, Listing, Position | None]:
    """Return the parameters that ``args`` have, the list that they ask for, and where its page begins.

    Raises:
        marshmallow.ValidationError: by parameter.
        InvalidCursor: the cursor is not one of this list.
    """
    given = MultiDict([pair for pair in args.items(multi=True) if pair[1] and pair[0] not in _OF_THE_PAGE])
    listing = requests.load_groups_query(_asked_for(given), workspace_id=workspace_id, vocabulary=vocabulary)
    return given, listing, cursors.read(listing.cursor, scope=listing.scope)


def hours_of(alert_list: AlertList, workspace_id: int, *, now: datetime) -> Mapping[int, Activity]:
    """Return the alerts by hour of each group. Call it inside ``database.session()``."""
    return activity.last_hours(workspace_id, [row["id"] for row in alert_list.rows], now=now)


def query_string(args: "Args | Sequence[tuple[str, str]]") -> str:
    """Return parameters as a query string with its question mark; empty if there are none."""
    pairs = list(args.items(multi=True)) if isinstance(args, MultiDict) else list(args)
    return f"?{urlencode(pairs)}" if pairs else ""


def view_query(args: Args) -> str:
    """Return the query string that a view of this list has: no page of it, and parameters in one order."""
    return query_string(sorted(pair for pair in args.items(multi=True) if pair[0] not in PAGE_PARAMETERS))


def assignee_of(caller: Caller) -> str:
    """Return the name by which groups are assigned to who is signed in; empty if the filter cannot name it.

    API_TOKEN names no person.
    """
    name = caller.token
    return name if caller.token_id and is_name(name) and name != UNASSIGNED and not name.startswith("!") else ""


def choices() -> Mapping[str, object]:
    """Return what the form offers."""
    return {"tabs": TABS, "severities": list(reversed(Severity)), "sort_keys": list(SortKey)}


def _asked_for(given: Args) -> Args:
    """Return the parameters of the API that a tab means.

    Groups that a newer one of their key superseded take no alerts any more: they are no work that is left.
    """
    asked = MultiDict(given)
    status = asked.getlist("status")
    if not status:
        asked["status"] = GroupStatus.OPEN.value
    elif status == [ALL]:
        del asked["status"]
    if asked.get("status") not in (None, GroupStatus.RESOLVED.value) and "current" not in asked:
        asked["current"] = "true"
    return asked


def _without_page(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [pair for pair in pairs if pair[0] != "cursor"]
