"""The words of the domain: what comes in, what it means, what is kept.

Values only. Nothing here does I/O, reads a clock or knows a sender.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType


class Severity(StrEnum):
    """How bad it is, mildest first; members compare by rank, not by spelling."""

    INFO = "info"
    LOW = "low"
    MED = "med"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for the mildest to 4 for the worst."""
        return _SEVERITY_RANKS[self.value]

    def shifted(self, steps: int) -> "Severity":
        """The severity ``steps`` higher (or lower, if negative), kept on the scale."""
        scale = tuple(Severity)
        return scale[min(max(self.rank + steps, 0), len(scale) - 1)]


_SEVERITY_RANKS: Mapping[str, int] = MappingProxyType(
    {severity.value: rank for rank, severity in enumerate(Severity)},
)


class GroupStatus(StrEnum):
    """The state of a group. A snooze past its end reads as open."""

    OPEN = "open"
    ACK = "ack"
    RESOLVED = "resolved"
    SNOOZED = "snoozed"


class Decision(StrEnum):
    """What grouping did with an alert, and why.

    ``JOINED`` is the only one that opened no group. The last three name the reason why the
    group before could not take the alert: it had been quiet for longer than the window, it was
    resolved, or its snooze had outlasted the window and then ended.
    """

    NEW = "new"
    JOINED = "joined"
    WINDOW_EXPIRED = "window_expired"
    AFTER_RESOLVED = "after_resolved"
    SNOOZE_ENDED = "snooze_ended"


class Change(StrEnum):
    """What a source says happened to the state of its groups."""

    RESOLVED = "resolved"
    UNRESOLVED = "unresolved"
    ARCHIVED = "archived"
    ASSIGNED = "assigned"


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalizedAlert:
    """An alert in our words, whoever sent it.

    ``source_event_id`` names it for ever within workspace and source: a second one with the same
    id is the same alert and counts once. ``fingerprint`` is typed (``issue:…``,
    ``metric_rule:…``, ``custom:…``, ``hashes:…``, ``made:…``). ``tags`` are pairs, as sent,
    duplicates kept. ``triggered_rule`` is the label of the rule that sent it, if one did.
    ``source_count`` is how often the sender itself has seen it. Texts hold nothing that
    PostgreSQL cannot store; times are aware UTC.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """What a source says about the state of the groups of one fingerprint, in every environment.

    ``project`` may be empty: then the fingerprint alone (within workspace and source) decides.
    ``substatus`` is the source's own word, e.g. Sentry's ``archived_until_escalating``;
    ``snoozed_until`` is the end of an archiving that has one; ``assignee`` is who now has it, for
    ``ASSIGNED`` (``sentry:user:31``), or ``None`` where nobody has. ``source_count`` is as an alert's.
    """

    source: str
    change: Change
    project: str
    fingerprint: str
    received_at: datetime
    substatus: str = ""
    snoozed_until: datetime | None = None
    assignee: str | None = None
    source_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldWarning:
    """Something in a delivery that was missing, odd or cleaned, and did not matter enough to refuse it.

    ``field`` is the path in the body (``data.event.level``); ``problem`` a short static phrase
    without any text of the sender's.
    """

    field: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalization:
    """All that one delivery meant."""

    outcomes: Sequence[NormalizedAlert | StatusChange]
    warnings: Sequence[FieldWarning] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSnapshot:
    """A group as it stood when a batch of alerts had been stored: what rules and notifiers are handed.

    ``escalated`` says that this batch made its severity rise (a worse alert, or a spike); a group it opened has not
    escalated.
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


#: What people call their environments, and what we call them. Settings can extend it.
ENVIRONMENT_ALIASES: Mapping[str, str] = MappingProxyType(
    {
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
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """How one workspace wants its alerts worded.

    ``default_environment`` stands in for a missing one; ``environment_aliases`` has lower-case
    keys; ``severity_shift`` is in steps, by environment in our words.
    """

    default_environment: str = "prod"
    environment_aliases: Mapping[str, str] = field(default_factory=lambda: ENVIRONMENT_ALIASES)
    severity_shift: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
