"""Parameters of a sample."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from signalcraft.sources.sentry.samples.issue_types import ERROR, ISSUE_TYPES, IssueType

TITLE: Final = "PaymentTimeout: card gateway did not answer within 5.0 s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """The values of one delivery; the defaults describe one error in one shop.

    ``issue`` empty: simulate Sentry's grouping, one issue for each project, title and fingerprint;
    ``None``: the body has no issue id, as in 2020. ``rule_id`` ``None``: the rule has no settings, so its
    deliveries have only the label. ``issue_type`` other than an error's replaces title and level. ``size`` is in
    bytes; 0: no padding. ``status_details`` is Sentry's ``statusDetails``; ``assignee`` is ``("user", 31)`` or
    ``("team", 7)``.
    """

    event_id: str
    occurred_at: datetime
    idempotency_key: str | None
    project: str = "checkout"
    project_id: int = 4509877862268928
    org: str = "northwind"
    base: str = "https://sentry.io"
    installation: str = "0d3b7f52-64b1-4c0e-9c9f-5b5a86a1c7e4"
    hook_guid: str = "5f1c9a3e7b2d48069e4fa1b8c7d60321"
    environment: str | None = "production"
    level: str = "error"
    issue: str | None = ""
    issue_type: str = ERROR
    title: str = TITLE
    fingerprint: Sequence[str] = ("{{ default }}",)
    rule: str = "Checkout errors to SignalCraft"
    rule_id: int | None = None
    size: int = 0
    count: int = 41
    substatus: str | None = None
    status_details: dict[str, object] | None = None
    assignee: tuple[str, int] | None = ("user", 31)
    activity: str = "status_resolved"
    incident: str = "90431"
    metric_rule: str = "2217"
    incident_status: int | None = None

    @property
    def occurs_as(self) -> IssueType | None:
        """Return the type of the issue, unless that is an error."""
        return None if self.issue_type == ERROR else ISSUE_TYPES[self.issue_type]

    @property
    def issue_id(self) -> str | None:
        """Return the issue that the event belongs to."""
        return str(4_000_000_000 + int(self._digest()[:8], 16)) if self.issue == "" else self.issue

    @property
    def grouping_hash(self) -> str:
        """Return the event's grouping hash: 32 hex digits."""
        return self._digest()[:32]

    @property
    def kind(self) -> str:
        """Return the exception's type.

        It is the part of the title before the colon.
        """
        return self.title.partition(": ")[0]

    @property
    def value(self) -> str:
        """Return the exception's value.

        It is the part of the title after the colon.
        """
        return self.title.partition(": ")[2]

    @property
    def release(self) -> str:
        """Return the version that was running."""
        return f"{self.project}@4.18.2"

    def api(self, path: str) -> str:
        """Return a URL of the API."""
        return f"{self.base}/api/0/{path}"

    def page(self, path: str) -> str:
        """Return the URL of a page of the organization."""
        return f"{self.base}/organizations/{self.org}/{path}"

    @property
    def with_z(self) -> str:
        """Return the time with six fractional digits and ``Z``."""
        return self.occurred_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    @property
    def with_offset(self) -> str:
        """Return the time in ``isoformat()``.

        It ends in ``+00:00``, and has a fraction only if that is not 0.
        """
        return self.occurred_at.astimezone(UTC).isoformat()

    def _digest(self) -> str:
        parts = json.dumps([self.project, self.title, list(self.fingerprint)])
        return hashlib.sha256(parts.encode()).hexdigest()
