"""Decide who is told of a happening: rules, routes, and what receivers were told before. No I/O.

- A *card* receiver has one notification for each group. A happening marks it as due; what is sent is the group as it
  is then.
  A card that has a thread gets a *reply* when it escalates, or when its problem is back.
- An *event* receiver has one notification for each happening that its route tells of. A receiver that was told of a
  group is told that it is over, and that it is open again, whatever the route says.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from signalcraft import logs, metrics
from signalcraft.domain.alerts import Decision, GroupSnapshot
from signalcraft.domain.notifications import Evaluate
from signalcraft.notify.config import NotifyConfig
from signalcraft.notify.contract import Mode
from signalcraft.notify.routes import Route, Subject, select
from signalcraft.storage.audit_log import Actor

log = structlog.get_logger(__name__)

#: Happenings by which people learn of a group, as the decision that rules are asked about.
FIRST: Final[Mapping[str, Decision]] = {
    "opened": Decision.NEW,
    "recurred": Decision.WINDOW_EXPIRED,
    "regressed": Decision.AFTER_RESOLVED,
    "escalated": Decision.JOINED,
}
#: A problem that is back so soon after the last message about it stays in its card.
FLAPPING: Final = timedelta(hours=1)
_PERSONS: Final = frozenset(actor.value for actor in Actor if actor.is_person)
#: Happenings that each receiver which knows the group is told of.
_FOR_THE_TOLD: Final = frozenset({"resolved", "reopened"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something that happened to a group, with the group as it is now. ``is_old``: too long ago to be told as new."""

    id: int
    kind: str
    at: datetime
    actor: str
    is_old: bool
    workspace: str
    group_key: str
    tags: Sequence[tuple[str, str]]
    group: GroupSnapshot

    @property
    def is_by_person(self) -> bool:
        """Whether somebody waits to see what came of it."""
        return self.actor in _PERSONS

    @property
    def subject(self) -> Subject:
        """What routes are matched with."""
        group = self.group
        return Subject(
            workspace=self.workspace,
            source=group.source,
            project=group.project,
            environment=group.environment,
            severity=group.severity,
            tags=self.tags,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The card of a group; ``id`` is that of its notification, None if that is not stored yet.

    ``is_posted``: the receiver has it.
    """

    group_id: int
    id: int | None = None
    is_posted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LastFirst:
    """When a receiver was last told of the problem of a group key as new; ``card`` shows it, if there is one."""

    at: datetime
    card: Card | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What receivers were told before. ``decide`` adds what it decides.

    ``by_group`` has the receivers that know a group, ``last_first`` is by receiver and group key. ``posted`` has the
    receivers and groups whose cards are there.
    """

    by_group: dict[int, set[str]]
    last_first: dict[tuple[str, str], LastFirst]
    posted: set[tuple[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNotification:
    """A notification to insert, or a card to make due; ``takes_over`` is the card of an earlier group to keep.

    ``urgency`` is 1 for what escalated, and 2 for what a person did where people see it, which goes first. Neither is
    part of a storm.
    """

    happening: Happening
    receiver: str
    route: str
    mode: Mode
    reason: str
    due_at: datetime
    takes_over: Card | None = None
    urgency: int = 0

    @property
    def identity(self) -> tuple[str, int, Mode]:
        """What is one row: a card is one for its group, others one for their happening."""
        is_card = self.mode is Mode.CARD
        return self.receiver, self.happening.group.id if is_card else self.happening.id, self.mode


def _is_back(happening: Happening, route: Route, last: LastFirst) -> bool:
    """Return whether a problem is back too soon to be told as a new one."""
    if happening.kind == "regressed":
        return last.card is not None and "regressed" in route.on and happening.at - last.at < FLAPPING
    return happening.kind == "recurred" and happening.at - last.at < route.recurrence


def _card_after(last: LastFirst | None, group_id: int) -> Card:
    """Return the card of a group that is told as new: the one it has, or a new one."""
    known = last.card if last else None
    return known if known and known.group_id == group_id else Card(group_id=group_id)


class Router:
    """Routes happenings by one configuration."""

    def __init__(self, config: NotifyConfig, rules: Sequence[Evaluate]) -> None:
        """Create it; ``rules`` are those of the setting RULES."""
        self._config = config
        self._rules = rules

    def decide(self, happening: Happening, told: Told) -> list[NewNotification]:
        """Return the notifications of ``happening``, and add them to ``told``."""
        reasons = self._reasons(happening)
        if not reasons:
            return []
        routed = self.routes_of(happening.subject)
        known = told.by_group.setdefault(happening.group.id, set())
        found = [] if happening.is_old else list(self._by_routes(happening, routed, reasons[0], told))
        chosen = {notification.receiver for notification in found}
        found += [
            self._update(happening, name, routed.get(name))
            for name in sorted(known - chosen)
            if name in self._config.receivers and self._concerns(name, happening)
        ]
        known |= chosen
        return found

    def routes_of(self, subject: Subject) -> dict[str, Route]:
        """Return the receivers that the routes choose for ``subject``, each with the first route that does."""
        chosen: dict[str, Route] = {}
        for route in select(self._config.routes, subject):
            for name in route.to:
                chosen.setdefault(name, route)
        return chosen

    def _reasons(self, happening: Happening) -> Sequence[str]:
        """Return why people are told: what the rules say, for happenings that rules decide about."""
        decision = FIRST.get(happening.kind)
        if decision is None:
            return [happening.kind]
        group = replace(happening.group, escalated=happening.kind == "escalated")
        try:
            with metrics.timed("signalcraft_stage_seconds", stage="rules"):
                found = [reason for evaluate in self._rules for reason in evaluate(group, decision)]
        except Exception as error:  # noqa: BLE001 - users' code: the built-in decision stands
            metrics.count("signalcraft_errors_total", stage="notify", kind="permanent")
            log.error("rule failed", stage="fan_out", group_id=group.id, **logs.exception_fields(error))  # noqa: TRY400
            return [happening.kind]
        return [happening.kind if reason == "new" else reason for reason in found]

    def _by_routes(
        self, happening: Happening, routed: Mapping[str, Route], reason: str, told: Told
    ) -> Iterator[NewNotification]:
        """Yield the notifications that the routes tell of. A reason of a rule's own is told whatever ``on`` says."""
        is_own_reason = reason not in (*FIRST, happening.kind)
        for receiver, route in routed.items():
            kind, is_card = happening.kind, self._config.receivers[receiver].mode is Mode.CARD
            key = receiver, happening.group_key
            last = told.last_first.get(key)
            if last is not None and not is_card:
                last = replace(last, card=None)  # the receiver of this name was of another kind before
            if last is not None and _is_back(happening, route, last):
                yield from self._in_card(happening, receiver, route, last, told)
                continue
            kind = "opened" if kind == "recurred" else kind
            if (kind not in route.on and not is_own_reason) or (is_card and kind not in FIRST):
                continue
            if kind in FIRST:
                card = _card_after(last, happening.group.id) if is_card else None
                told.last_first[key] = LastFirst(at=happening.at, card=card)
            due_at = route.due_at(happening.at)
            yield self._new(happening, receiver, route.name, reason if is_own_reason else kind, due_at)
            if kind == "escalated" and (receiver, happening.group.id) in told.posted:
                yield from self._reply(happening, receiver, route, due_at)

    def _in_card(
        self, happening: Happening, receiver: str, route: Route, last: LastFirst, told: Told
    ) -> Iterator[NewNotification]:
        """Hand the card of the earlier group to the new one; receivers without cards are told nothing."""
        card, group_id = last.card, happening.group.id
        if card is None:
            return
        is_quiet = happening.kind == "recurred" and card.id is not None
        due_at = happening.at + route.update_every if is_quiet else route.due_at(happening.at)
        reason = "opened" if happening.kind == "recurred" and card.id is None else happening.kind
        yield replace(self._new(happening, receiver, route.name, reason, due_at), takes_over=card)
        told.by_group.setdefault(card.group_id, set()).discard(receiver)
        told.last_first[receiver, happening.group_key] = replace(last, card=replace(card, group_id=group_id))
        if card.is_posted:
            told.posted.add((receiver, group_id))
            yield from self._reply(happening, receiver, route, due_at)

    def _reply(self, happening: Happening, receiver: str, route: Route, due_at: datetime) -> Iterator[NewNotification]:
        """Yield a message for the thread of a card that is there, if the receiver has threads."""
        if self._config.receivers[receiver].has_threads:
            notification = self._new(happening, receiver, route.name, happening.kind, due_at)
            yield replace(notification, mode=Mode.REPLY)

    def _concerns(self, receiver: str, happening: Happening) -> bool:
        """Return whether ``receiver``, which knows the group, is told of something its route does not name."""
        if self._config.receivers[receiver].mode is Mode.CARD:
            return True
        is_silent = happening.actor == "clock"  # the clock resolves silently
        return happening.kind in _FOR_THE_TOLD and not is_silent

    def _update(self, happening: Happening, receiver: str, route: Route | None) -> NewNotification:
        """Return the notification for a receiver that knows the group. What a person did is told at once."""
        route = route or Route(name="", to=(receiver,))
        at_once = self._config.receivers[receiver].mode is Mode.EVENT or happening.is_by_person
        due_at = happening.at if at_once else happening.at + route.update_every
        return self._new(happening, receiver, route.name, happening.kind, due_at)

    def _new(self, happening: Happening, receiver: str, route: str, reason: str, due_at: datetime) -> NewNotification:
        chosen = self._config.receivers[receiver]
        urgency = 2 if happening.is_by_person and chosen.has_threads else int(happening.kind == "escalated")
        return NewNotification(
            happening=happening,
            receiver=receiver,
            route=route,
            mode=chosen.mode,
            reason=reason,
            due_at=due_at,
            urgency=urgency,
        )
