"""Evaluate rules for the groups of a batch, and queue notifications.

A rule is ``evaluate(group, decision) -> reasons``; a notifier is ``queue_notification(reason, group)``. Both run after
the alerts are stored, so their failures cannot lose one.
"""

import structlog

from signalcraft import logs, metrics
from signalcraft.domain.errors import RecoverableError
from signalcraft.groups import record
from signalcraft.worker.context import WorkerContext

log = structlog.get_logger(__name__)


def notify(recorded: record.RecordResult, context: WorkerContext) -> None:
    """Evaluate the rules for each changed group and queue notifications.

    There is one notification per reason. Rules and notifiers may be users' code: what they raise is logged and counted,
    and affects nothing else.
    """
    for group_id, decision in recorded.decisions.items():
        group = recorded.groups[group_id]
        try:
            with metrics.timed("signalcraft_stage_seconds", stage="rules"):
                reasons = [reason for evaluate in context.rules for reason in evaluate(group, decision)]
            with metrics.timed("signalcraft_stage_seconds", stage="notify"):
                for reason in reasons:
                    context.queue_notification(reason, group)
        except RecoverableError as error:  # Redis is unavailable: no bug, and the same for many groups
            metrics.count("signalcraft_errors_total", stage="notify", kind="recoverable")
            log.warning("notification not queued", stage="notify", group_id=group_id, reason=str(error))
        except Exception as error:  # noqa: BLE001 - users' code
            metrics.count("signalcraft_errors_total", stage="notify", kind="permanent")
            log.error("rule or notifier failed", stage="notify", group_id=group_id, **logs.exception_fields(error))  # noqa: TRY400
