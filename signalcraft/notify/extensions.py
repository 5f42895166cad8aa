"""Users' code: the rules and the notifier that the settings ``RULES`` and ``NOTIFIER`` name by their dotted paths."""

import pkgutil
from collections.abc import Sequence
from typing import Any, Final

from signalcraft.domain.errors import InvalidSetting
from signalcraft.domain.notifications import Evaluate, QueueNotification
from signalcraft.settings import Settings

#: Paths of earlier releases that settings may contain, and the current ones.
_MOVED: Final = {"signalcraft.notices.notice": "signalcraft.domain.notifications.default_rule"}
#: The default of NOTIFIER, which stands for none.
_NO_NOTIFIER: Final = "signalcraft.tasks.queue_notification"


def rules(settings: Settings) -> Sequence[Evaluate]:
    """Import the rules.

    Raises:
        InvalidSetting: a path cannot be imported.
    """
    return [_named("RULES", path) for path in settings.rules]


def notifier(settings: Settings) -> QueueNotification | None:
    """Import the notifier, if there is one.

    Raises:
        InvalidSetting: its path cannot be imported.
    """
    return None if settings.notifier == _NO_NOTIFIER else _named("NOTIFIER", settings.notifier)


def _named(variable: str, path: str) -> Any:  # noqa: ANN401 - users' code
    try:
        return pkgutil.resolve_name(_MOVED.get(path, path))
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidSetting(f"{variable} names {path}, which cannot be imported: {error}.") from error
