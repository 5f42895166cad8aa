"""What a delivery must have to be let in at the door, as marshmallow schemas, and nothing beyond that.

A schema is asked for its words only when something is wrong. Whether something is takes a few
``isinstance`` on the hot path; they are read off the same schema, so there is one definition.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from marshmallow import EXCLUDE, Schema, fields

from signalcraft.domain.errors import InvalidFields

_TYPES: Mapping[type[fields.Field[Any]], type] = MappingProxyType({fields.String: str, fields.Dict: dict})


def _expecting(what: str) -> dict[str, Any]:
    """One wording for each way to be wrong: absent, null, of another type."""
    wrong = f"must be {what}"
    return {"required": f"is missing; {what} is expected", "null": wrong, "invalid": wrong}


def _object(*, required: bool = True) -> fields.Dict:
    return fields.Dict(required=required, error_messages=_expecting("a JSON object"))


class _Lenient(Schema):
    """Sentry adds keys without notice: whatever is not named here is none of our business."""

    class Meta:
        unknown = EXCLUDE


class Door(_Lenient):
    """What every delivery of an integration has (Sentry's ``AppPlatformEvent``)."""

    action = fields.String(required=True, error_messages=_expecting("text"))
    data = _object()


class ServiceHook(_Lenient):
    """Sentry's ``get_payload_v0``."""

    event = _object()


class Legacy(_Lenient):
    """Sentry's ``LegacyWebhookPayload``. The oldest senders have no ``event``, but a message."""

    event = _object(required=False)


@dataclass(frozen=True, slots=True)
class Shape:
    """A schema, and the types that it demands by key."""

    schema: Schema
    types: tuple[tuple[str, type, bool], ...]

    @classmethod
    def of(cls, schema: type[Schema]) -> "Shape":
        """The shape that ``schema`` demands."""
        made = schema()
        return cls(made, tuple((name, _TYPES[type(each)], each.required) for name, each in made.fields.items()))

    def fits(self, part: Mapping[str, Any]) -> bool:
        """Whether the schema would find nothing wrong with ``part``."""
        for name, expected, required in self.types:
            if name in part:
                if not isinstance(part[name], expected):
                    return False
            elif required:
                return False
        return True

    def check(self, part: Mapping[str, Any], under: str = "") -> None:
        """Nothing, if ``part`` fits.

        Raises:
            InvalidFields: it does not; the errors are by path in the body, ``part`` standing ``under``.
        """
        if not self.fits(part):
            raise InvalidFields(
                errors={under + name: problems for name, problems in self.schema.validate(part).items()}
            )


DOOR = Shape.of(Door)
SERVICE_HOOK = Shape.of(ServiceHook)
LEGACY = Shape.of(Legacy)
LEGACY_EVENT = Shape.of(ServiceHook)


def _data_with(name: str) -> Shape:
    return Shape.of(_Lenient.from_dict({name: _object()}, name=f"{name.title()}Data"))


#: What ``data`` must hold, by resource: the resource's own object.
DATA: Mapping[str, Shape] = MappingProxyType(
    {
        "event_alert": _data_with("event"),
        "error": _data_with("error"),
        "issue": _data_with("issue"),
        "metric_alert": _data_with("metric_alert"),
        "activity_alert": _data_with("issue"),
    }
)
