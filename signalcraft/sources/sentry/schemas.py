"""Fields that a delivery must have to be accepted, as marshmallow schemas.

The hot path only needs a few ``isinstance`` checks, derived from the same schema so that there is one
definition; marshmallow itself runs only to produce the error messages.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from marshmallow import EXCLUDE, Schema, fields

from signalcraft.domain.errors import InvalidFields

_TYPES: Final[Mapping[type[fields.Field[Any]], type]] = {fields.String: str, fields.Dict: dict}


def _expecting(what: str) -> dict[str, Any]:
    wrong = f"must be {what}"
    return {"required": f"is missing; {what} is expected", "null": wrong, "invalid": wrong}


def _object() -> fields.Dict:
    return fields.Dict(required=True, error_messages=_expecting("a JSON object"))


class _Lenient(Schema):
    """Accepts unknown keys: Sentry adds keys without notice."""

    class Meta:
        unknown = EXCLUDE


class Integration(_Lenient):
    """Fields of every delivery of an integration (Sentry's ``AppPlatformEvent``)."""

    action = fields.String(required=True, error_messages=_expecting("text"))


class IntegrationAlert(Integration):
    """Fields of a delivery that may be an alert."""

    data = _object()


class Legacy(_Lenient):
    """Sentry's ``LegacyWebhookPayload``, if no other key proves it."""

    event = _object()


@dataclass(frozen=True, slots=True)
class Shape:
    """A schema, and the types that it requires by key."""

    schema: Schema
    types: tuple[tuple[str, type], ...]

    @classmethod
    def of(cls, schema: type[Schema]) -> "Shape":
        """Derive the types from ``schema``."""
        instance = schema()
        return cls(instance, tuple((name, _TYPES[type(each)]) for name, each in instance.fields.items()))

    def fits(self, part: Mapping[str, Any]) -> bool:
        """Return whether ``part`` is valid by the schema."""
        return all(isinstance(part.get(name), expected) for name, expected in self.types)

    def check(self, part: Mapping[str, Any]) -> None:
        """Check that required fields are present and of their type.

        Raises:
            InvalidFields: one is missing or of another type; the errors are by path in the body.
        """
        if not self.fits(part):
            raise InvalidFields(errors=self.schema.validate(part))


INTEGRATION = Shape.of(Integration)
INTEGRATION_ALERT = Shape.of(IntegrationAlert)
LEGACY = Shape.of(Legacy)
