"""What the worker works by: how alerts are grouped and worded, which rules look at groups, who is told.

``RULES`` and ``NOTIFIER`` are the two places where people put code of their own. ``Stages`` are the steps that whoever
takes deliveries from somewhere, a queue or the shelf, is handed.
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

#: How long ``Stages.prepare`` may take: 16 MB need a fraction of a second. With a body that our code never gets done
#: with the process ends; its deliveries are tried again, alone, and the one that it is about is set aside in the end.
PREPARE_TIMEOUT_SECONDS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """All that ``process`` needs beside the deliveries."""

    policy: GroupingPolicy
    vocabulary: Vocabulary
    rules: Sequence[Evaluate]
    queue_notification: QueueNotification

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Set up as ``settings`` say; rules and notifier are imported by their dotted paths.

        Raises:
            InvalidSetting: a path leads nowhere.
        """
        return cls(
            policy=settings.grouping_policy,
            vocabulary=settings.vocabulary,
            rules=[_named("RULES", path) for path in settings.rules],
            queue_notification=_named("NOTIFIER", settings.notifier),
        )


class Stages(Protocol):
    """The steps of working deliveries off, each handed what the one before came to.

    ``record`` may run in another thread while the next batch is prepared, but never twice at a time. It is to be
    idempotent, and to raise RecoverableError where it should be called again.
    """

    def prepare(self, deliveries: Sequence[AcceptedDelivery], /) -> Any:  # noqa: ANN401 - between the stages
        """Find out what ``deliveries`` mean; touches nothing that is stored."""

    def record(self, batch: Any, /) -> Any:  # noqa: ANN401 - likewise
        """Store them."""

    def conclude(self, outcome: Any, /) -> None:  # noqa: ANN401 - likewise
        """Do what comes after."""


class InboxStages(Stages, Protocol):
    """The same where ``record`` is part of a larger transaction: nobody else sees what it stored before that ends."""

    def reapply(self, outcome: Any, /) -> None:  # noqa: ANN401 - likewise
        """Once it is committed, make up for what others stored and said meanwhile; raises as ``record``."""


#: Paths of earlier releases that people may have set, and where they are now.
_MOVED: Final = {"signalcraft.notices.notice": "signalcraft.domain.notifications.default_rule"}


def _named(variable: str, path: str) -> Any:  # noqa: ANN401 - what people put there
    try:
        return pkgutil.resolve_name(_MOVED.get(path, path))
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidSetting(f"{variable} names {path}, which cannot be imported: {error}.") from error
