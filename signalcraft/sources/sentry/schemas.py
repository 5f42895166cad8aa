"""Fields that a delivery must have to be accepted, as marshmallow schemas.

The hot path only needs a few ``isinstance`` checks, derived from the same schema so that there is one
definition; marshmallow itself runs only to produce the error messages.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from marshmallow import EXCLUDE, Schema, fields

from signalcraft.domain.errors import InvalidFields

_TYPES: Mapping[type[fields.Field[Any]], type] = MappingProxyType({fields.String: str, fields.Dict: dict})


def _expecting(what: str) -> dict[str, Any]:
    wrong = f"must be {what}"
    return {"required": f"is missing; {what} is expected", "null": wrong, "invalid": wrong}


def _object(*, required: bool = True) -> fields.Dict:
    return fields.Dict(required=required, error_messages=_expecting("a JSON object"))


class _Lenient(Schema):
    """Accepts unknown keys: Sentry adds keys without notice."""

    class Meta:
        unknown = EXCLUDE


class Integration(_Lenient):
    """Fields of every delivery of an integration (Sentry's ``AppPlatformEvent``)."""

    action = fields.String(required=True, error_messages=_expecting("text"))
    data = _object()


class ServiceHook(_Lenient):
    """Sentry's ``get_payload_v0``."""

    event = _object()


class Legacy(_Lenient):
    """Sentry's ``LegacyWebhookPayload``. The oldest senders have a message and no ``event``."""

    event = _object(required=False)


@dataclass(frozen=True, slots=True)
class Shape:
    """A schema, and the types that it requires by key."""

    schema: Schema
    types: tuple[tuple[str, type, bool], ...]

    @classmethod
    def of(cls, schema: type[Schema]) -> "Shape":
        """Derive the types from ``schema``."""
        instance = schema()
        return cls(instance, tuple((name, _TYPES[type(each)], each.required) for name, each in instance.fields.items()))

    def fits(self, part: Mapping[str, Any]) -> bool:
        """Return whether ``part`` is valid by the schema."""
        for name, expected, required in self.types:
            if name in part:
                if not isinstance(part[name], expected):
                    return False
            elif required:
                return False
        return True

    def check(self, part: Mapping[str, Any], under: str = "") -> None:
        """Check that required fields are present and of their type.

        Raises:
            InvalidFields: one is missing or of another type; the errors are by path in the body, and ``under`` is the
                prefix of ``part``.
        """
        if not self.fits(part):
            raise InvalidFields(
                errors={under + name: problems for name, problems in self.schema.validate(part).items()}
            )


INTEGRATION = Shape.of(Integration)
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
