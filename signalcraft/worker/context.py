"""Dependencies of the worker: grouping policy and vocabulary; and the interface of its stages.

``Stages`` are what the consumers of the queue and of the inbox run over deliveries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from signalcraft.domain.alerts import Vocabulary
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.grouping import GroupingPolicy
from signalcraft.settings import Settings

#: How long ``Stages.prepare`` may take: 16 MB need a fraction of a second. If a body takes longer, the process ends;
#: its deliveries are tried again, one by one, and the one that causes it is dead-lettered in the end.
PREPARE_TIMEOUT_SECONDS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """Everything that ``process`` needs besides the deliveries."""

    policy: GroupingPolicy
    vocabulary: Vocabulary

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Create the context of ``settings``."""
        return cls(
            policy=settings.grouping_policy,
            vocabulary=settings.vocabulary,
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
        """Log, and wake the notifier."""


class InboxStages(Stages, Protocol):
    """Stages for a ``record`` inside a larger transaction, invisible to others until that commits."""

    def reapply(self, outcome: Any, /) -> None:  # noqa: ANN401 - likewise
        """Apply the missed status changes after the commit.

        They were invisible inside the transaction. Raises as ``record``.
        """
