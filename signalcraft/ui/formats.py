"""How templates write times, numbers, links and charts. Everything is text: Jinja escapes it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from signalcraft import sources
from signalcraft.domain.alerts import GroupStatus, Severity
from signalcraft.notify.messages import word

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
#: Up to so many seconds, a duration is written in units of so many, with this letter.
_UNITS: Final = ((_MINUTE, 1, "s"), (_HOUR, _MINUTE, "m"), (2 * _DAY, _HOUR, "h"), (60 * _DAY, _DAY, "d"))
_WEEK: Final = 7 * _DAY

#: In the words of messages.
STATUS_WORDS: Final[Mapping[str, str]] = {status: word(status).capitalize() for status in GroupStatus}
SEVERITY_WORDS: Final[Mapping[str, str]] = {severity: word(severity).capitalize() for severity in Severity}


def duration(seconds: float) -> str:
    """Return a duration in its largest unit, such as 5m; it is never negative."""
    whole = max(0, int(seconds))
    for below, unit, letter in _UNITS:
        if whole < below:
            return f"{whole // unit}{letter}"
    return f"{whole // _WEEK}w"


def ago(moment: datetime) -> str:
    """Return how long ago ``moment`` was, or in how long it will be."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    if seconds < -1:
        return f"in {duration(-seconds)}"
    return "now" if seconds < 5 else f"{duration(seconds)} ago"


def absolute(moment: datetime) -> str:
    """Return a time to the second, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def machine(moment: datetime) -> str:
    """Return a time for the attribute ``datetime``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def number(value: int) -> str:
    """Return a number with its thousands apart, by a narrow space that does not break."""
    return f"{value:,}".replace(",", "\u202f")


def plural(value: int, word: str) -> str:
    """Return a number and what it counts."""
    return f"{number(value)} {word}{'' if value == 1 else 's'}"


def is_link(url: str | None) -> bool:
    """Return whether ``url`` may stand in a link: of http or https."""
    return bool(url) and str(url).startswith(("https://", "http://"))


def bars(counts: Sequence[int], *, height: int, width: int = 4, gap: int = 1) -> str:
    """Return the path of a bar chart in SVG; any alert is higher than none."""
    highest = max(counts, default=0)
    path = []
    for position, alerts in enumerate(counts):
        if alerts:
            tall = max(2, round(alerts / highest * height))
            path.append(f"M{position * width} {height}v-{tall}h{width - gap}v{tall}z")
    return "".join(path)


def busiest(counts: Sequence[int], since: datetime, step: timedelta) -> str:
    """Return when most alerts came, in words; empty if none did."""
    if not any(counts):
        return ""
    position = max(range(len(counts)), key=counts.__getitem__)
    moment = (since + position * step).astimezone(UTC)
    when = moment.strftime("%H:%M UTC") if step < timedelta(days=1) else moment.strftime("%Y-%m-%d")
    return f"peak of {number(counts[position])} {'at' if step < timedelta(days=1) else 'on'} {when}"


NAMES: Final[Mapping[str, object]] = {
    "absolute": absolute,
    "ago": ago,
    "bars": bars,
    "busiest": busiest,
    "duration": duration,
    "is_link": is_link,
    "machine": machine,
    "number": number,
    "plural": plural,
    "source_title": sources.title,
    "status_words": STATUS_WORDS,
    "severity_words": SEVERITY_WORDS,
}
