"""The life of an alert: taken in by ``receive``, worked off by ``process``.

``receive`` runs in the web process and is done in milliseconds: verify, limit, identify, queue. ``process`` runs in
the worker, over one delivery or five hundred alike: normalize, group, store; then, where nothing can be lost any
more, rules and notifications.
"""

import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Self

import structlog

from signalcraft import border, changes, intake, metrics, models, store
from signalcraft.alerts import (
    ENVIRONMENT_ALIASES,
    AcceptedDelivery,
    Decision,
    Delivery,
    FieldWarning,
    GroupSnapshot,
    NormalizedAlert,
    StatusChange,
    Vocabulary,
)
from signalcraft.errors import InvalidFields, PermanentError
from signalcraft.grouping import group_key
from signalcraft.intake import Answer, Intake, Receipt
from signalcraft.placing import Arrival, Home
from signalcraft.settings import Settings
from signalcraft.sources import SOURCES

log = structlog.get_logger(__name__)

#: A rule: why people should hear of a group, given what has just happened to it. No reason: they should not.
Evaluate = Callable[[GroupSnapshot, Decision], Iterable[str]]
#: A notifier: sees to it that people hear of a group for one reason. It should only queue what takes time.
QueueNotification = Callable[[str, GroupSnapshot], None]


def receive(delivery: Delivery, *, delivery_id: str, workspace: str, desk: Intake) -> Receipt:
    """Take ``delivery`` in for the workspace whose slug is ``workspace``, once.

    Raises:
        Refusal: it is not taken, and nothing of it is kept.
        DatabaseUnavailable: nobody knows the workspace's secrets yet.
    """
    source = SOURCES[desk.source]
    with metrics.timed("signalcraft_stage_seconds", stage="verify"):
        access = intake.verify(delivery, source, workspace, desk.directory)
    desk.limit(access.workspace)
    with metrics.timed("signalcraft_stage_seconds", stage="identify"):
        identity = source.identify(delivery)
    receipt = Receipt(answer=Answer.IGNORED, delivery_id=delivery_id, identity=identity, reason=identity.ignored)
    if identity.ignored and not identity.is_unknown:
        return receipt
    accepted = AcceptedDelivery(
        delivery_id=delivery_id,
        delivery_key=identity.delivery_key,
        workspace_id=access.workspace_id,
        workspace=access.workspace,
        source=desk.source,
        resource=identity.resource,
        delivery=delivery,
    )
    with metrics.timed("signalcraft_stage_seconds", stage="queue"):
        taken = intake.keep(accepted, desk)
    if identity.ignored:
        return receipt
    answer = Answer.ACCEPTED if taken.fresh else Answer.DUPLICATE
    return Receipt(answer=answer, delivery_id=taken.delivery_id, identity=identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """All that ``process`` needs beside the deliveries."""

    policy: store.Policy
    vocabulary: Vocabulary
    rules: Sequence[Evaluate]
    queue_notification: QueueNotification

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Set up as ``settings`` say; rules and notifier are imported by their dotted paths.

        Raises:
            ImportError, AttributeError: a path leads nowhere.
        """
        return cls(
            policy=policy_of(settings),
            vocabulary=vocabulary_of(settings),
            rules=[pkgutil.resolve_name(path) for path in settings.rules],
            queue_notification=pkgutil.resolve_name(settings.notifier),
        )


def policy_of(settings: Settings) -> store.Policy:
    """How alerts are grouped."""
    return store.Policy(
        window=timedelta(minutes=settings.grouping_window_minutes),
        spike_count=settings.spike_count,
        spike_minutes=settings.spike_minutes,
    )


def vocabulary_of(settings: Settings) -> Vocabulary:
    """How alerts are worded."""
    return Vocabulary(
        default_environment=settings.default_environment,
        environment_aliases={**ENVIRONMENT_ALIASES, **settings.environment_aliases},
        severity_shift=settings.severity_shift,
    )


@dataclass(slots=True)
class _Normalized:
    """A batch in our words."""

    arrivals: list[Arrival] = field(default_factory=list)
    changes: list[tuple[int, StatusChange]] = field(default_factory=list)
    failures: list[tuple[AcceptedDelivery, PermanentError]] = field(default_factory=list)
    unhandled: list[AcceptedDelivery] = field(default_factory=list)


def process(deliveries: Sequence[AcceptedDelivery], bench: Workbench) -> store.Recorded:
    """Work off ``deliveries``. Doing it again changes nothing.

    One that cannot be worked off is set aside with its reason; the others are stored all the same.

    Raises:
        RecoverableError: PostgreSQL is away or busy: try again later.
        NotStorable: PostgreSQL refuses what one of several deliveries holds: work them off one by one.
    """
    normalized = _normalize(deliveries, bench.vocabulary)
    with models.session():
        _set_aside(normalized.failures, stage="normalize")
        store.keep_unhandled(normalized.unhandled)
        recorded = _store(normalized, bench.policy)
    _report(deliveries, normalized, recorded)
    _notify(recorded, bench)
    return recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What would become of a delivery. ``home`` is where its alert would go, None if it is stored already."""

    outcome: NormalizedAlert | StatusChange
    group_key: str
    home: Home | None


def preview(
    delivery: Delivery,
    workspace_id: int,
    *,
    policy: store.Policy,
    vocabulary: Vocabulary,
) -> tuple[Sequence[Preview], Sequence[FieldWarning]]:
    """Say what ``process`` would do with ``delivery`` now; its signature is not asked for, and nothing is stored.

    Raises:
        Refusal: it would be refused at the door, or set aside by the worker.
    """
    source = SOURCES["sentry"]
    source.identify(delivery)
    try:
        meaning = source.normalize(delivery, vocabulary)
    except PermanentError as error:
        raise InvalidFields(errors={error.field or "body": [str(error)]}) from error
    return [_preview(outcome, delivery, workspace_id, policy) for outcome in meaning.outcomes], meaning.warnings


def _preview(
    outcome: NormalizedAlert | StatusChange,
    delivery: Delivery,
    workspace_id: int,
    policy: store.Policy,
) -> Preview:
    if isinstance(outcome, StatusChange):
        return Preview(outcome=outcome, group_key="", home=None)
    arrival = _arrival(outcome, delivery, workspace_id=workspace_id, delivery_id="")
    with models.session():
        recorded = store.preview([arrival], policy)
    return Preview(outcome=outcome, group_key=arrival.group_key, home=next(iter(recorded.homes), None))


def set_aside(accepted: AcceptedDelivery, error: PermanentError, *, stage: str) -> None:
    """Keep a delivery that cannot be worked off where ``replay`` finds it.

    Raises:
        RecoverableError: PostgreSQL is away: nothing is kept yet.
    """
    with models.session():
        _set_aside([(accepted, error)], stage=stage)


def _normalize(deliveries: Iterable[AcceptedDelivery], vocabulary: Vocabulary) -> _Normalized:
    normalized = _Normalized()
    with metrics.timed("signalcraft_stage_seconds", stage="normalize"):
        for accepted in deliveries:
            try:
                _normalize_one(accepted, vocabulary, normalized)
            except PermanentError as error:
                normalized.failures.append((accepted, error))
    return normalized


def _normalize_one(accepted: AcceptedDelivery, vocabulary: Vocabulary, normalized: _Normalized) -> None:
    meaning = SOURCES[accepted.source].normalize(accepted.delivery, vocabulary)
    for warning in meaning.warnings:
        log.info(
            "field cleaned or missing",
            stage="normalize",
            delivery_id=accepted.delivery_id,
            workspace=accepted.workspace,
            field=warning.field,
            problem=warning.problem,
        )
    if not meaning.outcomes:
        normalized.unhandled.append(accepted)
    for outcome in meaning.outcomes:
        if isinstance(outcome, StatusChange):
            normalized.changes.append((accepted.workspace_id, outcome))
        else:
            arrival = _arrival(
                outcome,
                accepted.delivery,
                workspace_id=accepted.workspace_id,
                delivery_id=accepted.delivery_id,
            )
            border.check(arrival)
            normalized.arrivals.append(arrival)


def _arrival(alert: NormalizedAlert, delivery: Delivery, *, workspace_id: int, delivery_id: str) -> Arrival:
    return Arrival(
        workspace_id=workspace_id,
        delivery_id=delivery_id,
        group_key=group_key(
            source=alert.source,
            project=alert.project,
            environment=alert.environment,
            fingerprint=alert.fingerprint,
        ),
        alert=alert,
        payload=delivery.body.decode("utf-8", "replace"),
        rules=(alert.triggered_rule,) if alert.triggered_rule else (),
    )


def _store(normalized: _Normalized, policy: store.Policy) -> store.Recorded:
    """Alerts first, then what the source says of their groups, each in a transaction of its own."""
    with metrics.timed("signalcraft_stage_seconds", stage="store"):
        recorded = store.record(normalized.arrivals, policy) if normalized.arrivals else store.Recorded()
        changed = changes.apply_changes(normalized.changes)
    metrics.count("signalcraft_alerts_total", len(recorded.homes))
    metrics.count("signalcraft_duplicates_total", recorded.duplicates)
    metrics.count("signalcraft_groups_created_total", recorded.created)
    metrics.count("signalcraft_groups_updated_total", recorded.updated)
    metrics.count("signalcraft_status_changes_total", changed)
    for home in recorded.homes:
        metrics.count("signalcraft_decisions_total", decision=home.decision.value)
    return recorded


def _set_aside(failures: Iterable[tuple[AcceptedDelivery, PermanentError]], *, stage: str) -> None:
    for accepted, error in failures:
        store.set_aside(accepted, error, stage=stage)
        metrics.count("signalcraft_errors_total", stage=stage, kind="permanent")
        log.warning(
            "delivery set aside",
            stage=stage,
            delivery_id=accepted.delivery_id,
            workspace=accepted.workspace,
            source=accepted.source,
            resource=accepted.resource,
            code=error.code,
        )


def _report(deliveries: Sequence[AcceptedDelivery], normalized: _Normalized, recorded: store.Recorded) -> None:
    """One line a delivery: what became of it."""
    failed = {accepted.delivery_id for accepted, _ in normalized.failures}
    homes = {home.arrival.delivery_id: home for home in recorded.homes}
    for accepted in deliveries:
        if accepted.delivery_id in failed:
            continue
        home = homes.get(accepted.delivery_id)
        log.info(
            "delivery worked off",
            stage="store",
            delivery_id=accepted.delivery_id,
            workspace=accepted.workspace,
            source=accepted.source,
            resource=accepted.resource,
            event_id=home.event_id if home else None,
            group_id=home.group_id if home else None,
            decision=home.decision.value if home else None,
        )


def _notify(recorded: store.Recorded, bench: Workbench) -> None:
    """Ask the rules of each group that the batch touched, and hand on what they say.

    Rules and notifiers may be anybody's code. Whatever they raise is logged and counted, and touches nothing else:
    the alerts are stored.
    """
    for group_id, decision in recorded.decisions.items():
        group = recorded.groups[group_id]
        try:
            with metrics.timed("signalcraft_stage_seconds", stage="rules"):
                reasons = [reason for evaluate in bench.rules for reason in evaluate(group, decision)]
            with metrics.timed("signalcraft_stage_seconds", stage="notify"):
                for reason in reasons:
                    bench.queue_notification(reason, group)
        except Exception:
            metrics.count("signalcraft_errors_total", stage="notify", kind="permanent")
            log.exception("rule or notifier failed", stage="notify", group_id=group_id)


def notice(group: GroupSnapshot, decision: Decision) -> Iterable[str]:
    """The built-in rule: people hear of groups that are new, came back after they were resolved, or grew worse."""
    if decision is Decision.AFTER_RESOLVED:
        yield "regressed"
    elif decision is not Decision.JOINED:
        yield "new"
    if group.escalated:
        yield "escalated"
