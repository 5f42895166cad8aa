"""Read the configuration of receivers and routes: the TOML that the setting ``NOTIFY`` holds or names.

Everything is checked at start: a wrong key, an unknown receiver or a missing environment variable is refused with its
place in the file. Secrets are written as ``env:NAME`` and read from the environment.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from re import compile as pattern
from typing import Any, Final

from marshmallow import INCLUDE, Schema, ValidationError, fields, post_load, validate

from signalcraft.domain.alerts import Severity
from signalcraft.domain.errors import InvalidSetting
from signalcraft.domain.notifications import QueueNotification
from signalcraft.notify.contract import Receiver, Secret
from signalcraft.notify.receivers import KINDS
from signalcraft.notify.receivers.function import FunctionReceiver
from signalcraft.notify.receivers.log import LogReceiver
from signalcraft.notify.routes import DEFAULT_ON, Hours, Match, Route
from signalcraft.settings.values import text_or_file

#: Kinds of happenings, in the order in which a group goes through them.
HAPPENINGS: Final = (
    "opened",
    "recurred",
    "regressed",
    "escalated",
    "acked",
    "snoozed",
    "snooze_ended",
    "resolved",
    "reopened",
    "assigned",
)
_DURATION = pattern(r"(\d{1,6})([smhd])")
_UNITS: Final[Mapping[str, str]] = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_NAME = pattern(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyConfig:
    """Receivers by name, routes in order, and what holds for all.

    ``fallback`` is the receiver that is told of trouble with the others, if any. ``storm`` is how many messages a
    receiver gets within a minute before the others become a digest; 0: never.
    """

    receivers: Mapping[str, Receiver]
    routes: Sequence[Route]
    fallback: str | None = None
    storm: int = 10


class _Duration(fields.Field[timedelta]):
    """A duration: ``30s``, ``10m``, ``4h``, ``7d``."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> timedelta:  # noqa: ANN401, ARG002 - marshmallow's signature
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValidationError("must be a duration like 30s, 10m, 4h or 7d")
        return timedelta(**{_UNITS[match[2]]: int(match[1])})


class _HoursField(fields.Field[Hours]):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Hours:  # noqa: ANN401, ARG002 - marshmallow's signature
        try:
            return Hours.parse(value if isinstance(value, str) else "")
        except ValueError as error:
            raise ValidationError(str(error)) from None


class _Patterns(fields.Field[tuple[str, ...]]):
    """One glob, or a list of them."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> tuple[str, ...]:  # noqa: ANN401, ARG002 - marshmallow's signature
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not values or not all(isinstance(each, str) and each for each in values):
            raise ValidationError("must be text, or a list of texts")
        return tuple(values)


class _Match(Schema):
    workspace = _Patterns()
    source = _Patterns()
    project = _Patterns()
    environment = _Patterns()
    severity_min = fields.Enum(Severity, by_value=True)
    tags = fields.Dict(keys=fields.String(), values=_Patterns())

    @post_load
    def _build(self, values: dict[str, Any], **_: Any) -> Match:  # noqa: ANN401 - marshmallow's signature
        return Match(**values)


class _Shared(Schema):
    """What a route may say, and ``[defaults]`` for all routes."""

    match = fields.Nested(_Match)
    to = _Patterns()
    on = fields.List(fields.String(validate=validate.OneOf(HAPPENINGS)), validate=validate.Length(min=1))
    go_on = fields.Boolean(truthy={True}, falsy={False})
    wait = _Duration()
    update_every = _Duration()
    hours = _HoursField()
    remind_after = _Duration()
    recurrence_hours = fields.Integer(strict=True, validate=validate.Range(0, 24 * 30))


class _Route(_Shared):
    name = fields.String(required=True, validate=validate.Length(1, 100))


class _File(Schema):
    fallback = fields.String()
    storm = fields.Integer(strict=True, validate=validate.Range(0, 1000))
    defaults = fields.Nested(_Shared)
    receivers = fields.Dict(keys=fields.String(validate=validate.Regexp(_NAME)), values=fields.Dict())
    routes = fields.List(fields.Nested(_Route))


class _Kind(Schema):
    class Meta:
        unknown = INCLUDE

    kind = fields.String(required=True, validate=validate.OneOf(KINDS))


def load(notify: str, environ: Mapping[str, str], notifier: QueueNotification | None = None) -> NotifyConfig:
    """Return the configuration; ``notify`` is TOML, or the path of a file with TOML.

    Without one, each happening by which people learn of a group is a line in the log. ``notifier`` is a function of
    users' own (the setting NOTIFIER), which is called for these too.

    Raises:
        InvalidSetting: with the place in the file and what is wrong, never with a secret.
    """
    if not notify.strip():
        receiver = LogReceiver("log") if notifier is None else FunctionReceiver("notifier", notifier)
        return NotifyConfig(receivers={receiver.name: receiver}, routes=(_first_alone(receiver.name),), storm=0)
    try:
        config = _build(_File().load(_parse(notify)), environ)
        return config if notifier is None else _with_notifier(config, notifier)
    except ValidationError as error:
        raise InvalidSetting(f"NOTIFY: {'; '.join(_problems(error.messages))}.") from None


def problems_of(receiver: Receiver, environ: Mapping[str, str]) -> list[str]:
    """Return what is wrong with a receiver and with the settings that it needs. Nothing is sent."""
    unset = [f"{name} is not set: {what}." for name, what in receiver.needs.items() if not environ.get(name)]
    return [*receiver.check(), *unset]


def _first_alone(name: str) -> Route:
    """Return a route for what earlier releases told of."""
    return Route(name=name, to=(name,), on=DEFAULT_ON - {"resolved"}, go_on=True)


def _with_notifier(config: NotifyConfig, notifier: QueueNotification) -> NotifyConfig:
    receiver = FunctionReceiver("notifier", notifier)
    taken = {"receivers": config.receivers, "routes": [route.name for route in config.routes]}
    for table, names in taken.items():
        if receiver.name in names:
            raise ValidationError({table: [f"{receiver.name} is the name of what the setting NOTIFIER adds"]})
    return replace(
        config,
        receivers={**config.receivers, receiver.name: receiver},
        routes=(_first_alone(receiver.name), *config.routes),
    )


def _parse(notify: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text_or_file("NOTIFY", notify))
    except tomllib.TOMLDecodeError as error:
        raise InvalidSetting(f"NOTIFY: it is not TOML: {error}.") from None


def _build(loaded: Mapping[str, Any], environ: Mapping[str, str]) -> NotifyConfig:
    receivers = {name: _receiver(name, options, environ) for name, options in loaded.get("receivers", {}).items()}
    defaults = loaded.get("defaults", {})
    routes = [_route(position, {**defaults, **route}) for position, route in enumerate(loaded.get("routes", ()))]
    named = {f"routes.{position}.to": route.to for position, route in enumerate(routes)}
    if fallback := loaded.get("fallback"):
        named["fallback"] = (fallback,)
    for place, names in named.items():
        for name in names:
            if name not in receivers:
                raise ValidationError({place: [f"names the unknown receiver {name}"]})
    of_routes = [route.name for route in routes]
    for position, name in enumerate(of_routes):
        if name in of_routes[:position]:  # a stored notification names its route
            raise ValidationError({f"routes.{position}.name": [f"is also the name of routes.{of_routes.index(name)}"]})
    return NotifyConfig(
        receivers=receivers,
        routes=routes,
        fallback=fallback,
        storm=loaded.get("storm", 10),
    )


def _receiver(name: str, options: Mapping[str, Any], environ: Mapping[str, str]) -> Receiver:
    place = f"receivers.{name}"
    try:
        kind = KINDS[_Kind().load(options)["kind"]]
        resolved = {key: _resolve(key, value, environ) for key, value in options.items() if key != "kind"}
        schema = kind.options()
        return kind(name, **schema.load(_from_variables(schema, environ) | resolved))
    except ValidationError as error:
        raise ValidationError({place: error.messages}) from None


def _from_variables(schema: Schema, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the options that a setting gives to all receivers of a kind."""
    variables = {key: field.metadata.get("variable", "") for key, field in schema.fields.items()}
    return {key: environ[variable] for key, variable in variables.items() if environ.get(variable)}


def _resolve(key: str, value: Any, environ: Mapping[str, str]) -> Any:  # noqa: ANN401 - of TOML
    """Return the ``value`` of ``key`` with each ``env:NAME`` replaced by the secret in that variable."""
    if isinstance(value, list):
        return [_resolve(key, each, environ) for each in value]
    if not isinstance(value, str) or not value.startswith("env:"):
        return value
    name = value.removeprefix("env:")
    if not environ.get(name):
        raise ValidationError({key: [f"names the environment variable {name}, which is not set"]})
    return Secret(environ[name].strip())


def _route(position: int, values: dict[str, Any]) -> Route:
    if "to" not in values:
        raise ValidationError({f"routes.{position}.to": ["Missing data for required field."]})
    values["on"] = frozenset(values.get("on", DEFAULT_ON))
    if "recurrence_hours" in values:
        values["recurrence"] = timedelta(hours=values.pop("recurrence_hours"))
    return Route(**values)


def _problems(messages: Any, place: str = "") -> Iterable[str]:  # noqa: ANN401 - nested, as marshmallow gives them
    """Yield each problem with its place in the file."""
    if isinstance(messages, dict):
        for key, inner in messages.items():
            at = place if key == "_schema" else f"{place}.{key}" if place else str(key)
            yield from _problems(inner, at)
    elif isinstance(messages, list):
        for message in messages:
            yield f"{place}: {str(message).rstrip('.')}"
    else:
        yield f"{place}: {messages}"
