"""Deliver notifications to one receiver: claim, commit, send, record.

A claim takes the most urgent notification that is due and leases it, and the receiver with it, by PostgreSQL's clock:
one message is in flight for each receiver, in however many processes. Nothing is sent while a transaction is open. A
lease that ends without a record comes back: the message may have arrived, and is sent again with the same id.

What is sent is the group as it is then. A notification that says nothing new by that time is *covered*: the group was
resolved before anyone was told of it, or an earlier message has said so already.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from signalcraft import logs, metrics
from signalcraft.groups.reading import queries
from signalcraft.notify import cards, messages, replies, trouble
from signalcraft.notify import delivery_sql as sql
from signalcraft.notify.config import NotifyConfig
from signalcraft.notify.contract import DETAIL_LIMIT, Message, Mode, Outcome, OutcomeKind, Receiver
from signalcraft.notify.news import is_news
from signalcraft.notify.receivers.log import LogReceiver
from signalcraft.storage.database import database, rows, session

log = structlog.get_logger(__name__)

Row = dict[str, Any]

_FAILED = (OutcomeKind.RETRY, OutcomeKind.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Durations of delivery. Tests use shorter ones.

    ``backoff`` is for one message; after a failed attempt all messages of the receiver pause for ``failed``, so that
    one that is down is not tried with each of them, and one message that always fails holds up no other for long.
    """

    lease: timedelta = timedelta(seconds=30)
    backoff: Sequence[float] = (1, 5, 30, 120, 600, 1_800, 3_600)
    failed: float = 5.0
    jitter: float = 0.2
    give_up_after: timedelta = timedelta(hours=24)
    rate_limited: float = 30.0
    broken_retry: timedelta = timedelta(hours=1)
    storm: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """A leased notification, and the message to send. The end of the lease tells this claim from later ones."""

    row: Row
    message: Message
    told_status: str | None = None
    told_digest: str | None = None
    snoozed_until: datetime | None = None


class ReceiverDelivery:
    """Delivers the notifications of one receiver."""

    def __init__(
        self, receiver: Receiver, config: NotifyConfig, *, public_url: str = "", timing: Timing | None = None
    ) -> None:
        """Create it. ``public_url`` is where people reach the pages, empty for no links to them."""
        self._receiver = receiver
        self._config = config
        self._public_url = public_url
        self._timing = timing or Timing()

    def run_once(self) -> bool:
        """Send what is due next, if anything; return whether there may be more.

        Raises:
            DatabaseUnavailable: PostgreSQL is unavailable; what was claimed comes back when its lease ends.
        """
        with session():
            claim = self._claim()
        if claim is None:
            return False
        if isinstance(claim, _Claim):
            self._send(claim)
        return True

    def _claim(self) -> _Claim | bool | None:
        """Lease the next notification; True if one was covered instead, None if nothing is due."""
        with database.atomic():
            locked = self._row(sql.LOCK_RECEIVER)
            if locked is None:
                return None
            storm = None if locked["broken_since"] else self._storm()
            row = self._start_digest() if storm and storm["due"] > 1 and not storm["digest_is_recent"] else None
            only_tests = bool(locked["broken_since"]) and not locked["may_retry"]
            row = row or self._row(sql.PICK, only_tests=only_tests, holds=storm is not None)
            if row is None:
                return None
            row["key"] = locked["key"]
            claim = self._render(row)
            if claim is None:
                database.execute_sql(sql.COVER, {name: row[name] for name in ("id", "revision", "tries")})
                return True
            lease = {"id": row["id"], "tries": row["tries"], "lease": self._timing.lease}
            row |= self._rows(sql.LEASE, **lease)[0]
            database.execute_sql(sql.LEASE_RECEIVER, {"receiver": self._receiver.name, "lease": self._timing.lease})
            return claim

    def _row(self, statement: str, **parameters: object) -> Row | None:
        return next(iter(self._rows(statement, **parameters)), None)

    def _rows(self, statement: str, **parameters: object) -> list[Row]:
        return rows(statement, {"receiver": self._receiver.name, **parameters})

    def _storm(self) -> Row | None:
        """Return what is due, if it is more than the receiver should get one by one.

        A digest tells of it, and until the next one may be sent, what comes after it waits.
        """
        limits = [(self._timing.storm, self._config.storm)] if self._config.storm else []
        if limits and self._receiver.mode is Mode.CARD:
            crowd = {"receiver": self._receiver.name, "most": self._config.storm}
            database.execute_sql(sql.DEMOTE_CROWD, crowd)
        if self._receiver.per_hour:
            limits.append((timedelta(hours=1), self._receiver.per_hour))
        for period, most in limits:
            counts = self._rows(sql.COUNT_DUE, period=period, limit=most + 1)[0]
            if not counts["due"] or counts["sent"] + counts["due"] <= most:
                continue
            if counts["urgent"] and counts["sent"] < most + most // 2:
                continue  # critical alerts of production go on one by one for a while
            return counts
        return None

    def _start_digest(self) -> Row | None:
        """Cover what is due with one digest."""
        is_card = self._receiver.mode is Mode.CARD
        digest = self._row(sql.REOPEN_DIGEST, period=self._timing.storm) if is_card else None
        digest = digest or self._row(sql.INSERT_DIGEST)
        if digest is not None:
            database.execute_sql(sql.COVER_BY_DIGEST, {"receiver": self._receiver.name, "id": digest["id"]})
        return digest

    def _render(self, row: Row) -> _Claim | None:
        """Return what to send; None if the notification says nothing new any more."""
        now = datetime.now(UTC)
        if row["mode"] == "digest":
            database.execute_sql(sql.TELL_COVERED, {"id": row["id"]})
            counts = self._rows(sql.COUNT_COVERED, id=row["id"])[0]
            worst = self._rows(sql.COVERED_GROUPS, id=row["id"], limit=messages.DIGEST_GROUPS)
            message = messages.of_digest(row, counts, worst, attempted_at=now, public_url=self._public_url)
            is_card = self._receiver.mode is Mode.CARD
            return _Claim(row=row, message=message, told_status=counts["status"] if is_card else None)
        if row["alert_group_id"] is None:
            message = messages.of_trouble(row, attempted_at=now)
            return _Claim(row=row, message=message)
        read = cards.group if row["mode"] == Mode.CARD else queries.group
        group = read(row["workspace_id"], row["alert_group_id"], now=now)
        if group is None or not is_news(row, group):
            return None
        if row["mode"] == Mode.REPLY:
            return self._render_reply(row, group, now)
        message = messages.of_group(row, group, attempted_at=now, public_url=self._public_url)
        return _Claim(
            row=row,
            message=message,
            told_status=group["status"],
            told_digest=messages.told_digest(group),
            snoozed_until=group["snoozed_until"],
        )

    def _render_reply(self, row: Row, group: Row, now: datetime) -> _Claim | None:
        storm = replies.Storm(messages=self._config.storm, period=self._timing.storm)
        message = replies.render(row, group, receiver=self._receiver.name, storm=storm, attempted_at=now)
        told_status = group["status"] if row["reason"] == "reminder" else None  # from which the next one follows
        return None if message is None else _Claim(row=row, message=message, told_status=told_status)

    def _send(self, claim: _Claim) -> None:
        started = time.monotonic()
        try:
            outcome = self._receiver.send(replace(claim.message, only_to=claim.row["undelivered_to"] or ()))
        except Exception as error:  # noqa: BLE001 - a kind's bug: the message is tried again
            log.error("receiver failed", stage="notify", receiver=self._receiver.name, **logs.exception_fields(error))  # noqa: TRY400
            outcome = Outcome(kind=OutcomeKind.RETRY, code="internal_error")
        took = time.monotonic() - started
        with session():
            self._record(claim, outcome, took_ms=round(took * 1000))
        self._report(claim, outcome)

    def _record(self, claim: _Claim, outcome: Outcome, *, took_ms: int) -> None:
        """Store the outcome, and what follows from it for the notification and the receiver."""
        row, name = claim.row, self._receiver.name
        kind = outcome.kind
        with database.atomic():
            attempt = {
                "id": row["id"],
                "outcome": kind.value,
                "code": outcome.code,
                "http_status": outcome.http_status,
                "took_ms": took_ms,
                "detail": _printable(outcome.detail),
            }
            database.execute_sql(sql.INSERT_ATTEMPT, attempt)
            if self._row(sql.LOCK_LEASED, id=row["id"], lease_until=row["lease_until"]) is None:
                return
            if kind is OutcomeKind.SENT:
                self._record_sent(claim, outcome)
            elif kind is OutcomeKind.REFUSED:
                database.execute_sql(sql.GIVE_UP, {"id": row["id"]})
            else:
                self._try_again(row, is_attempt=kind in _FAILED)
            state = {
                "receiver": name,
                "pause": self._pause(outcome),
                "sent": kind is OutcomeKind.SENT,
                "failed": kind is not OutcomeKind.SENT or bool(outcome.refused),
                "broken": kind is OutcomeKind.BROKEN,
                "code": outcome.code,
                "account": outcome.external_account,
                "channel": outcome.external_channel,
            }
            before = self._row(sql.RECEIVER_BROKEN)
            database.execute_sql(sql.RELEASE_RECEIVER, state)
            if kind is OutcomeKind.BROKEN and before is not None and before["broken_since"] is None:
                trouble.tell_of_broken_receiver(self._config, name, outcome.code)

    def _record_sent(self, claim: _Claim, outcome: Outcome) -> None:
        row = claim.row
        route = next((route for route in self._config.routes if route.name == row["route"]), None)
        database.execute_sql(
            sql.RECORD_SENT,
            {
                "id": row["id"],
                "revision": row["revision"],
                "told_status": claim.told_status,
                "told_digest": claim.told_digest,
                "external_id": outcome.external_id,
                "external_channel": outcome.external_channel,
                "remind_after": route.remind_after if route else None,
                "snoozed_until": claim.snoozed_until,
                "undelivered_to": list(outcome.undelivered) or None,
            },
        )
        if outcome.undelivered:
            self._try_again(row, is_attempt=True)
        database.execute_sql(sql.END_BACKOFF, {"receiver": self._receiver.name})
        if row["mode"] == "digest":
            database.execute_sql(sql.RECORD_COVERED, {"id": row["id"]})

    def _try_again(self, row: Row, *, is_attempt: bool) -> None:
        delay = self._backoff(row["tries"]) if is_attempt else 0.0
        again = {"id": row["id"], "tries": int(is_attempt), "delay": timedelta(seconds=delay)}
        database.execute_sql(sql.TRY_AGAIN, again | {"give_up_after": self._timing.give_up_after})

    def _backoff(self, tries: int) -> float:
        """Return the pause after ``tries`` failed attempts, in seconds, a fifth more or less by chance."""
        steps = self._timing.backoff
        pause = steps[min(tries, len(steps) - 1)]
        return pause * (1 + random.uniform(-self._timing.jitter, self._timing.jitter))  # noqa: S311 - no secret

    def _pause(self, outcome: Outcome) -> timedelta:
        """Return how long this receiver gets no message after ``outcome``."""
        if outcome.kind is OutcomeKind.RATE_LIMITED:
            seconds = outcome.retry_after if outcome.retry_after is not None else self._timing.rate_limited
            return timedelta(seconds=min(seconds, 3_600) + random.uniform(0, 1))  # noqa: S311 - no secret
        if outcome.kind is OutcomeKind.BROKEN:
            return self._timing.broken_retry
        pause = self._timing.failed if outcome.kind in _FAILED else 0.0
        return timedelta(seconds=max(self._receiver.pace, pause))

    def _report(self, claim: _Claim, outcome: Outcome) -> None:
        """Log and count one attempt."""
        row = claim.row
        metrics.count("signalcraft_notifications_total", receiver=self._receiver.name, outcome=outcome.kind.value)
        if outcome.kind is OutcomeKind.SENT:
            if row["mode"] != "digest":
                took = (datetime.now(UTC) - row["happened_at"]).total_seconds()
                metrics.observe("signalcraft_notification_seconds", max(took, 0.0))
            if isinstance(self._receiver, LogReceiver):
                return  # the message was a line already
        level = log.info if outcome.kind is OutcomeKind.SENT else log.warning
        level(
            "notification sent" if outcome.kind is OutcomeKind.SENT else "notification not sent",
            stage="notify",
            notification_id=claim.message.notification_id,
            receiver=self._receiver.name,
            reason=claim.message.reason,
            group_id=row["alert_group_id"],
            outcome=outcome.kind.value,
            code=outcome.code or None,
        )


def _printable(text: str) -> str:
    return "".join(character for character in text[:DETAIL_LIMIT] if character.isprintable())
