"""Named mappings: which field of an alert is where in another sender's body.

A place is a JSON pointer (RFC 6901). There is no expression language: a sender that needs one can send our own body.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from signalcraft.domain.errors import InvalidSetting
from signalcraft.sources import cleaning
from signalcraft.sources.generic.alerts import FIELDS, TAGS
from signalcraft.sources.protocol import SourceSetting

VARIABLE: Final = "GENERIC_MAPPINGS"
NAME: Final = re.compile(r"[a-z0-9_-]{1,50}")
_POINTER: Final = re.compile(r"(/([^~/]|~[01])*)*")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_KEYS: Final = frozenset({"pointer", "values", "default"})

PRESETS: Final = """\
# The body to enter there, with its method POST and the request header "Content-Type: application/json":
# {"code": "$CODE", "name": $NAME_JSON, "status": "$STATUS", "tags": "$TAGS"}
[healthchecks]
title = "/name"
fingerprint = "/code"
status = { pointer = "/status", values = { down = "firing", up = "resolved" } }
project = "/project"
environment = "/environment"
tags = { tags = "/tags" }

# Its own body, "application/json". Its test message has no heartbeat, and is ignored.
[uptimekuma]
title = "/monitor/name"
fingerprint = "/monitor/id"
status = { pointer = "/heartbeat/status", values = { 0 = "firing", 1 = "resolved" }, default = "ignored" }
description = "/msg"
link = "/monitor/url"
occurred_at = "/heartbeat/time"
project = "/project"
environment = "/environment"
tags = { type = "/monitor/type" }

# The payload to enter there:
# {"cycle": "$ALERT_CYCLE_KEY", "monitor": "$ALERT_ID", "title": "$EVENT_TITLE", "transition": "$ALERT_TRANSITION",
#  "priority": "$ALERT_PRIORITY", "text": "$TEXT_ONLY_MSG", "link": "$LINK", "scope": "$ALERT_SCOPE", "date": "$DATE"}
[datadog]
id = "/cycle"
title = "/title"
fingerprint = "/monitor"
description = "/text"
link = "/link"
occurred_at = "/date"
project = "/project"
environment = "/environment"
tags = { scope = "/scope" }

[datadog.status]
pointer = "/transition"
values = { Triggered = "firing", Re-Triggered = "firing", Warn = "firing", Re-Warn = "firing", "No Data" = "firing", \
"Re-No Data" = "firing", Renotify = "firing", Recovered = "resolved" }
default = "ignored"

[datadog.severity]
pointer = "/priority"
values = { P1 = "critical", P2 = "high", P3 = "med", P4 = "low", P5 = "info" }
default = "med"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where one field is. ``values`` translates what is there; ``default`` is for what is absent, or not translated."""

    steps: tuple[str, ...] | None
    values: Mapping[str, object] = field(default_factory=dict)
    default: object = None

    def read(self, body: object) -> object:
        """Return the field in ``body``."""
        found = None if self.steps is None else _resolve(body, self.steps)
        if self.values:
            found = self.values.get(found if isinstance(found, str) else cleaning.as_text(found))
        return self.default if found is None else found


Mapped = Mapping[str, "_Place | Mapping[str, _Place]"]


def parse(text: str) -> Mapping[str, Mapped]:
    """Parse mappings in TOML; those of ``PRESETS`` are there too, unless they are named again.

    Raises:
        InvalidSetting: it is no TOML, or a mapping is none.
    """
    try:
        tables = {**_PRESETS, **tomllib.loads(text)}
    except tomllib.TOMLDecodeError as error:
        raise InvalidSetting(f"{VARIABLE}: it is not TOML: {error}.") from None
    return {name: _mapping(name, table) for name, table in tables.items()}


def apply(mapping: Mapped, body: object) -> dict[str, object]:
    """Return the fields of an alert that ``body`` has."""
    found = {
        name: {tag: value.read(body) for tag, value in place.items()}
        if isinstance(place, Mapping)
        else place.read(body)
        for name, place in mapping.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def _mapping(name: str, table: object) -> Mapped:
    if not NAME.fullmatch(name):
        raise InvalidSetting(f"{VARIABLE}: the name {name!r} has not 1 to 50 of a-z, 0-9, - and _.")
    if not isinstance(table, dict):
        raise InvalidSetting(f"{VARIABLE}: {name} must be a table.")
    if unknown := sorted(table.keys() - FIELDS):
        raise InvalidSetting(f"{VARIABLE}: {name}.{unknown[0]} is no field; there are {', '.join(sorted(FIELDS))}.")
    if "status" not in table:
        raise InvalidSetting(f"{VARIABLE}: {name}.status is missing.")
    return {
        key: {tag: _place(f"{name}.{key}.{tag}", each) for tag, each in spec.items()}
        if key == TAGS and isinstance(spec, dict) and "pointer" not in spec
        else _place(f"{name}.{key}", spec)
        for key, spec in table.items()
    }


def _place(path: str, spec: object) -> _Place:
    table = {"pointer": spec} if isinstance(spec, str) else spec
    if not isinstance(table, dict) or not table or not table.keys() <= _KEYS:
        raise InvalidSetting(f"{VARIABLE}: {path} must be a JSON pointer, or a table of pointer, values and default.")
    pointer, values = table.get("pointer"), table.get("values", {})
    if pointer is not None and not (isinstance(pointer, str) and _POINTER.fullmatch(pointer)):
        raise InvalidSetting(f"{VARIABLE}: {path} is no JSON pointer, such as /monitor/name.")
    if not isinstance(values, dict):
        raise InvalidSetting(f"{VARIABLE}: {path}.values must be a table.")
    return _Place(
        steps=None if pointer is None else tuple(_unescape(step) for step in pointer.split("/")[1:]),
        values=values,
        default=table.get("default"),
    )


def _unescape(step: str) -> str:
    return step.replace("~1", "/").replace("~0", "~")


def _resolve(body: object, steps: tuple[str, ...]) -> object:
    """Return what a pointer points to, else None."""
    for step in steps:
        if isinstance(body, dict):
            body = body.get(step)
        elif isinstance(body, list) and _INDEX.fullmatch(step) and int(step) < len(body):
            body = body[int(step)]
        else:
            return None
    return body


_PRESETS: Final = tomllib.loads(PRESETS)

MAPPINGS: Final = SourceSetting(
    variable=VARIABLE,
    values="TOML, or the path of a file with it",
    parse=parse,
    purpose="Mappings of other senders' bodies to alerts, which `?mapping=<name>` in the webhook URL names.",
    is_text_or_file=True,
)
