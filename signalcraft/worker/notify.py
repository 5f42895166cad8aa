"""Whom a batch concerns: rules look at the groups that it touched, and a notifier hands on what they say.

A rule is ``evaluate(group, decision) -> reasons``; a notifier is ``queue_notification(reason, group)``. Both come last,
when the alerts are stored, and cannot touch that any more.
"""

import structlog

from signalcraft import logs, metrics
from signalcraft.domain.errors import RecoverableError
from signalcraft.groups import record
from signalcraft.worker.context import WorkerContext

log = structlog.get_logger(__name__)


def notify(recorded: record.RecordResult, context: WorkerContext) -> None:
    """Ask the rules of each group that the batch touched, and hand on what they say.

    Rules and notifiers may be anybody's code. Whatever they raise is logged and counted, and touches nothing else:
    the alerts are stored.
    """
    for group_id, decision in recorded.decisions.items():
        group = recorded.groups[group_id]
        try:
            with metrics.timed("signalcraft_stage_seconds", stage="rules"):
                reasons = [reason for evaluate in context.rules for reason in evaluate(group, decision)]
            with metrics.timed("signalcraft_stage_seconds", stage="notify"):
                for reason in reasons:
                    context.queue_notification(reason, group)
        except RecoverableError as error:  # Redis is away: no fault of ours, and of many groups at once
            metrics.count("signalcraft_errors_total", stage="notify", kind="recoverable")
            log.warning("notification not queued", stage="notify", group_id=group_id, reason=str(error))
        except Exception as error:  # noqa: BLE001 - as said above
            metrics.count("signalcraft_errors_total", stage="notify", kind="permanent")
            log.error("rule or notifier failed", stage="notify", group_id=group_id, **logs.exception_fields(error))  # noqa: TRY400
