"""How apispec describes our fields: types that it does not know, and the words for each field."""

from typing import Any

from marshmallow import Schema, fields

from signalcraft.groups.reading.group_schema import TimeField
from signalcraft.groups.reading.queries import SortKey
from signalcraft.groups.reading.request_fields import MAX_VALUES, ChoiceField, MomentField, SortField
from signalcraft.web.openapi_words import COMPOSED, WORDS

Json = dict[str, Any]


def _as_choice(_: object, field: fields.Field[Any], **__: object) -> Json:
    if isinstance(field, SortField):
        return {"type": "string", "enum": [sign + key for key in SortKey for sign in ("", "-")]}
    if not isinstance(field, ChoiceField):
        return {}
    names = {"enum": [sign + name for name in field.of for sign in ("", "!")]} if field.of else {"minLength": 1}
    return {"type": "array", "items": {"type": "string", **names}, "minItems": 1, "maxItems": MAX_VALUES}


def _as_time(_: object, field: fields.Field[Any], *, ret: Json, **__: object) -> Json:
    if isinstance(field, TimeField):
        kind = ["string", "null"] if field.allow_none else "string"
        return {"type": kind, "format": "date-time"}
    if not isinstance(field, MomentField):
        return {}
    ret.pop("format", None)
    return {"anyOf": [{"format": "date-time"}, {"format": "date"}]}


def _with_words(_: object, field: fields.Field[Any], **__: object) -> Json:
    """Return the description and the example of a field, by the most specific entry."""
    schema, name = field.parent, field.data_key or field.name
    if not isinstance(schema, Schema):  # what is inside a list
        return {}
    keys = (*(f"{kind.__name__}.{name}" for kind in type(schema).__mro__), str(name))
    description, example = next((WORDS[key] for key in keys if key in WORDS), ("", COMPOSED))
    if example is COMPOSED and not field.allow_none:
        return {"description": description} if description else {}
    return {"description": description, "examples": [example]}


ATTRIBUTE_FUNCTIONS = (_as_choice, _as_time, _with_words)
