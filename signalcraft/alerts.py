"""The words of the domain: what comes in, what it means, what is kept.

Values only. Nothing here does I/O, reads a clock or knows a sender.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self


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
class Secret:
    """One live secret of a workspace. Its value stays out of ``repr``.

    ``name`` is safe to log and to count by; ``kind`` is ``integration`` (an HMAC key, Sentry's
    client secret), ``servicehook`` (the HMAC key of one service hook) or ``legacy`` (the token
    in the URL of the unsigned WebHooks plugin).
    """

    name: str
    kind: str
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One HTTP request as it came, its body's bytes untouched.

    ``headers`` has lower-case names and only what a source reads. ``received_at`` is aware UTC,
    stamped in the web process: grouping uses it, so that a backlog groups as it would have live.
    ``url_token`` is the ``?token=`` of a sender that cannot sign.
    """

    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    received_at: datetime
    url_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a delivery is, read from its signed body.

    ``delivery_key`` is what a redelivery of it shares. ``ignored`` is empty for an alert or a
    status change; else it says why nothing will come of the delivery, and ``is_unknown`` whether that is because we
    do not know what it is: then it is kept raw. ``project`` is the source's own id or slug of the project, where the
    body has one.
    """

    resource: str
    action: str
    delivery_key: str
    ignored: str = ""
    is_unknown: bool = False
    project: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedDelivery:
    """A delivery that was verified and named: what a job carries and an inbox row holds.

    ``delivery_id`` (32 hex digits) is ours and follows it through every log line.
    """

    delivery_id: str
    delivery_key: str
    workspace_id: int
    workspace: str
    source: str
    resource: str
    delivery: Delivery

    def as_job_argument(self) -> dict[str, Any]:
        """Plain JSON values; the body as latin-1 text, which keeps any byte and compresses well."""
        return {
            "delivery_id": self.delivery_id,
            "delivery_key": self.delivery_key,
            "workspace_id": self.workspace_id,
            "workspace": self.workspace,
            "source": self.source,
            "resource": self.resource,
            "received_at": self.delivery.received_at.isoformat(),
            "headers": dict(self.delivery.headers),
            "body": self.delivery.body.decode("latin-1"),
        }

    @classmethod
    def from_job_argument(cls, argument: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`as_job_argument`.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is not such an argument. What is one can also be stored
                where deliveries are set aside, be its body what it may.
        """
        workspace_id = argument["workspace_id"]
        if type(workspace_id) is not int or not 0 < workspace_id <= _LARGEST_ID:
            raise ValueError("no workspace has this id")
        return cls(
            delivery_id=_storable(argument["delivery_id"]),
            delivery_key=_storable(argument["delivery_key"]),
            workspace_id=workspace_id,
            workspace=_storable(argument["workspace"]),
            source=_storable(argument["source"]),
            resource=_storable(argument["resource"]),
            delivery=Delivery(
                headers={_storable(name): _storable(value) for name, value in argument["headers"].items()},
                body=argument["body"].encode("latin-1"),
                received_at=_moment(argument["received_at"]),
            ),
        )


_LARGEST_ID = 2**63 - 1


def _storable(text: str) -> str:
    """``text``, if it is one that PostgreSQL takes: without NUL, which ``find`` also refuses of what is no text."""
    if text.find("\0") >= 0:
        raise ValueError("holds a character that cannot be stored")
    return text


def _moment(text: str) -> datetime:
    """A moment that every database and time zone has, and that says which zone it is in."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or not 1970 <= moment.year < 9999:
        raise ValueError("is no moment at which something is received")
    return moment


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
