"""Values of the domain: severities, statuses, normalized alerts, status changes, groups.

Values only: no I/O, no clock, nothing about one sender.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

from signalcraft.domain.errors import PermanentError

#: Rules that an event names, of those that sent it: further ones are dropped, or an event could grow without a bound.
MAX_EVENT_RULES = 100


class Severity(StrEnum):
    """Severity of an alert, mildest first; compare by ``rank``, not by spelling."""

    INFO = "info"
    LOW = "low"
    MED = "med"
    HIGH = "high"
    CRITICAL = "critical"

    @cached_property
    def rank(self) -> int:
        """Return 0 for the mildest to 4 for the worst."""
        return _SEVERITY_RANKS[self.value]

    def shifted(self, steps: int) -> "Severity":
        """Return the severity ``steps`` higher, clamped to the scale.

        Negative steps lower it.
        """
        scale = tuple(Severity)
        return scale[min(max(self.rank + steps, 0), len(scale) - 1)]


_SEVERITY_RANKS: Final[Mapping[str, int]] = {severity.value: rank for rank, severity in enumerate(Severity)}


class GroupStatus(StrEnum):
    """Status of a group. A snooze past its end reads as open."""

    OPEN = "open"
    ACK = "ack"
    RESOLVED = "resolved"
    SNOOZED = "snoozed"


class Decision(StrEnum):
    """What grouping did with an alert, and why.

    Every decision but ``JOINED`` opens a group. The last three name the reason why the previous
    group did not accept the alert: it had been quiet for longer than the window, it was
    resolved, or its snooze had outlasted the window and then ended.
    """

    NEW = "new"
    JOINED = "joined"
    WINDOW_EXPIRED = "window_expired"
    AFTER_RESOLVED = "after_resolved"
    SNOOZE_ENDED = "snooze_ended"


class Change(StrEnum):
    """Kinds of status change that a source reports."""

    RESOLVED = "resolved"
    UNRESOLVED = "unresolved"
    ARCHIVED = "archived"
    ASSIGNED = "assigned"


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalizedAlert:
    """An alert in SignalCraft's own format, the same for every sender.

    ``source_event_id`` is permanent and unique within workspace and source: a second alert with the
    same id is a duplicate and counts once. ``fingerprint`` is typed (``issue:…``,
    ``metric_rule:…``, ``custom:…``, ``hashes:…``, ``made:…``). ``tags`` are pairs, as sent,
    duplicates kept. ``triggered_rule`` is the label of the rule that sent the alert, if any.
    ``source_count`` is the sender's own number of occurrences. ``has_title``: the title is the sender's own, not
    made of other fields. ``names_environment``: deliveries of this kind can name an environment; without one, the
    alert belongs to its problem's group in any environment. ``is_episode``: it lasts until a ``StatusChange`` with its
    id; the sender may repeat it meanwhile. ``supersedes``: the episodes whose ids begin so and sort before its own are
    over. ``part`` is its part of a delivery with several; None: the whole. Texts
    hold nothing that PostgreSQL cannot store; times are aware UTC.
    """

    source: str
    source_event_id: str
    project: str
    environment: str
    severity: Severity
    fingerprint: str
    title: str
    description: str
    tags: Sequence[tuple[str, str]]
    occurred_at: datetime
    received_at: datetime
    link: str | None = None
    issue_id: str | None = None
    triggered_rule: str | None = None
    source_count: int | None = None
    has_title: bool = True
    names_environment: bool = True
    runbook_url: str | None = None
    is_episode: bool = False
    supersedes: str = ""
    part: "AlertPart | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPart:
    """One alert's part of a delivery: its path in the body (``alerts[17]``), and a body that alone gives this alert."""

    place: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """A source's status change for the groups of one fingerprint, in every environment.

    With an ``event_id`` it is about that episode alone (``NormalizedAlert.is_episode``), and is ``RESOLVED``: its
    group is resolved with the last of its episodes.
    ``substatus`` is the source's own term, e.g. ``archived_until_escalating``;
    ``snoozed_until`` is the end of an archiving that has one; ``assignee`` is the new assignee, for
    ``ASSIGNED`` (``<source>:user:31``), or ``None`` if unassigned. ``source_count`` is as an alert's.
    """

    source: str
    change: Change
    fingerprint: str
    received_at: datetime
    substatus: str = ""
    snoozed_until: datetime | None = None
    assignee: str | None = None
    source_count: int | None = None
    event_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFailure:
    """One alert of a delivery that cannot be read; the others are stored."""

    part: AlertPart
    error: PermanentError


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldWarning:
    """A field that was missing, invalid or cleaned, in a delivery that is processed nevertheless.

    ``field`` is the path in the body (``data.event.level``); ``problem`` a short static phrase
    that quotes nothing from the body.
    """

    field: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalization:
    """The alerts and status changes of one delivery, the alerts that cannot be read, and its warnings."""

    outcomes: Sequence[NormalizedAlert | StatusChange]
    warnings: Sequence[FieldWarning] = ()
    failures: Sequence[AlertFailure] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSnapshot:
    """A group after a batch of alerts was recorded: the input of rules and notifiers.

    ``escalated``: this batch raised the group's severity (a worse alert, or a spike); a group that the batch opened
    has not escalated.
    """

    id: int
    workspace_id: int
    source: str
    project: str
    environment: str
    fingerprint: str
    title: str
    severity: Severity
    status: GroupStatus
    count: int
    first_seen_at: datetime
    last_seen_at: datetime
    link: str | None
    previous_group_id: int | None
    escalated: bool


#: Common names of environments, and their canonical names. Settings can extend it.
ENVIRONMENT_ALIASES: Final[Mapping[str, str]] = {
    "production": "prod",
    "prd": "prod",
    "live": "prod",
    "stage": "staging",
    "stg": "staging",
    "preprod": "staging",
    "pre-production": "staging",
    "preproduction": "staging",
    "development": "dev",
    "develop": "dev",
    "local": "dev",
    "localhost": "dev",
    "testing": "test",
    "qa": "test",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Normalization settings of one workspace.

    ``default_environment`` replaces a missing environment; ``environment_aliases`` has lower-case
    keys; ``severity_shift`` is in steps, by canonical environment; ``settings`` are those of the sources, by variable.
    """

    default_environment: str = "prod"
    environment_aliases: Mapping[str, str] = field(default_factory=lambda: ENVIRONMENT_ALIASES)
    severity_shift: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
