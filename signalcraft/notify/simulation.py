"""Count the messages that receivers would have had for what happened, by one configuration. No I/O, no sending."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from signalcraft.notify.config import NotifyConfig
from signalcraft.notify.contract import Mode
from signalcraft.notify.routing import Happening, NewNotification, Router, Told

_HOUR: Final = 60
_DAY: Final = 24 * _HOUR

#: Messages by receiver and the beginning of a day or an hour, in UTC.
Counts = Mapping[tuple[str, datetime], int]


def simulate(config: NotifyConfig, router: Router, happenings: Iterable[Happening], *, by_hour: bool = False) -> Counts:
    """Return how many messages each receiver would have had, by day or by hour.

    ``happenings`` are in order of time. Edits that fall into one ``update_every`` are one; of what is due within a
    minute, more than ``storm`` messages are one digest.
    """
    told = Told(by_group=defaultdict(set), last_first={}, posted=set())
    found: list[NewNotification] = []
    for happening in happenings:
        decided = router.decide(happening, told)
        told.posted.update((new.receiver, happening.group.id) for new in decided if new.mode is Mode.CARD)
        found += decided
    edits = {_edit(new): new for new in found if new.mode is Mode.CARD}
    sent = [*(new for new in found if new.mode is not Mode.CARD), *edits.values()]
    minutes = Counter((new.receiver, _minute(new)) for new in sent)
    counts: Counter[tuple[str, datetime]] = Counter()
    step = _HOUR if by_hour else _DAY
    for (receiver, minute), number in minutes.items():
        is_storm = config.storm and number > config.storm
        counts[receiver, _moment(minute - minute % step)] += 1 if is_storm else number
    return counts


def _edit(new: NewNotification) -> tuple[str, int, int]:
    """Return what is one edit of a card: the receiver, the group, and the minute in which it is due."""
    return new.receiver, new.happening.group.id, _minute(new)


def _minute(new: NewNotification) -> int:
    """Return the minute in which a message is due, counted from the first day of the calendar."""
    return new.due_at.toordinal() * _DAY + new.due_at.hour * _HOUR + new.due_at.minute


def _moment(minute: int) -> datetime:
    """Return the time at which a minute of ``_minute`` begins."""
    return datetime.fromordinal(minute // _DAY) + timedelta(minutes=minute % _DAY)
