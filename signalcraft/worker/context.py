"""Dependencies of the worker: grouping policy, vocabulary, rules and notifier; and the interface of its stages.

The settings ``RULES`` and ``NOTIFIER`` are the two extension points for users' code. ``Stages`` are what the consumers
of the queue and of the inbox run over deliveries.
"""

import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from signalcraft.domain.alerts import Vocabulary
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import InvalidSetting
from signalcraft.domain.grouping import GroupingPolicy
from signalcraft.domain.notifications import Evaluate, QueueNotification
from signalcraft.settings import Settings

#: How long ``Stages.prepare`` may take: 16 MB need a fraction of a second. If a body takes longer, the process ends;
#: its deliveries are tried again, one by one, and the one that causes it is dead-lettered in the end.
PREPARE_TIMEOUT_SECONDS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """Everything that ``process`` needs besides the deliveries."""

    policy: GroupingPolicy
    vocabulary: Vocabulary
    rules: Sequence[Evaluate]
    queue_notification: QueueNotification

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Create the context of ``settings``.

        Rules and notifier are imported by their dotted paths.

        Raises:
            InvalidSetting: a path cannot be imported.
        """
        return cls(
            policy=settings.grouping_policy,
            vocabulary=settings.vocabulary,
            rules=[_named("RULES", path) for path in settings.rules],
            queue_notification=_named("NOTIFIER", settings.notifier),
        )


class Stages(Protocol):
    """The steps of processing deliveries; each receives the result of the one before.

    ``record`` may run in another thread while the next batch is prepared, but never twice at a time. It must be
    idempotent, and raise RecoverableError to be called again.
    """

    def prepare(self, deliveries: Sequence[AcceptedDelivery], /) -> Any:  # noqa: ANN401 - between the stages
        """Normalize ``deliveries``; read and write no storage."""

    def record(self, batch: Any, /) -> Any:  # noqa: ANN401 - likewise
        """Store the batch."""

    def conclude(self, outcome: Any, /) -> None:  # noqa: ANN401 - likewise
        """Log, evaluate rules and notify."""


class InboxStages(Stages, Protocol):
    """Stages for a ``record`` inside a larger transaction, invisible to others until that commits."""

    def reapply(self, outcome: Any, /) -> None:  # noqa: ANN401 - likewise
        """Apply the missed status changes after the commit.

        They were invisible inside the transaction. Raises as ``record``.
        """


#: Paths of earlier releases that settings may contain, and the current ones.
_MOVED: Final = {"signalcraft.notices.notice": "signalcraft.domain.notifications.default_rule"}


def _named(variable: str, path: str) -> Any:  # noqa: ANN401 - users' code
    try:
        return pkgutil.resolve_name(_MOVED.get(path, path))
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidSetting(f"{variable} names {path}, which cannot be imported: {error}.") from error
