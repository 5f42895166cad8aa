"""Examples and types of the OpenAPI description: made from its schemas, so that there is one source of both."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

_TYPES: Final[Mapping[str, str]] = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "object",
    "null": "null",
}
#: A larger one is a limit of ours, and says nothing to a reader.
_MAX_SHOWN_BOUND: Final = 1_000_000

#: What a body of Sentry must have; a real one has much more.
DELIVERY: Final = {
    "action": "triggered",
    "data": {
        "event": {
            "event_id": "fc6d8c0c43fc4630ad850ee518f1b9d0",
            "title": "ValueError: cannot parse price",
            "level": "error",
            "environment": "production",
            "issue_id": "4509",
            "url": "https://sentry.io/api/0/projects/acme/shop/events/fc6d8c0c43fc4630ad850ee518f1b9d0/",
        },
        "triggered_rule": "Errors in production",
    },
}

PREVIEWED: Final = {
    "kind": "alert",
    "duplicate": False,
    "decision": "joined",
    "group_id": 42,
    "group_key": "v1:5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592",
    "key_parts": {"source": "sentry", "project": "shop", "environment": "prod", "fingerprint": "issue:4509"},
    "source_event_id": "fc6d8c0c43fc4630ad850ee518f1b9d0",
    "severity": "high",
    "title": "ValueError: cannot parse price",
    "link": "https://sentry.io/organizations/acme/issues/4509/",
}


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Return an example of ``schema``, put together from those of its fields.

    ``schemas`` are those that references name.
    """
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return example_of(schemas[name_of(schema)], schemas)
    if schema.get("type") == "array":
        return [example_of(schema["items"], schemas)]
    return {name: example_of(inner, schemas) for name, inner in schema.get("properties", {}).items()}


def add_examples(described: Mapping[str, Any]) -> None:
    """Put an example next to the schema of each response that has none."""
    schemas = described["components"]["schemas"]
    for operation in (operation for methods in described["paths"].values() for operation in methods.values()):
        for response in operation["responses"].values():
            for content in response.get("content", {}).values():
                line = content.pop("x-line", None)
                if line is not None:
                    content["example"] = f"{json.dumps(example_of(schemas[line], schemas))}\n"
                elif "example" not in content:
                    content["example"] = example_of(content["schema"], schemas)


def name_of(schema: Mapping[str, Any]) -> str:
    """Return the name of the schema that ``schema`` refers to, or an empty string."""
    return str(schema.get("$ref", "")).rpartition("/")[2]


def type_of(schema: Mapping[str, Any], *, null: bool = True) -> str:
    """Return the type of ``schema`` in a reader's words.

    Without ``null`` it is left out that the value may be null, which a parameter cannot be.
    """
    if "$ref" in schema:
        return name_of(schema)
    kinds = schema.get("type", "string" if "enum" in schema else "anything")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    return " or ".join(dict.fromkeys(_kind(kind, schema) for kind in kinds if null or kind != "null"))


def _kind(kind: str, schema: Mapping[str, Any]) -> str:
    if kind == "array":
        return f"list of {type_of(schema['items'])}"
    if kind == "string" and "enum" in schema:
        return _choice([value for value in schema["enum"] if value is not None])
    formats = {schema.get("format"), *(each.get("format") for each in schema.get("anyOf", ()))}
    if kind == "string" and "date-time" in formats:
        return "time or date" if "date" in formats else "time"
    return _TYPES.get(kind, kind) + _bounds(schema)


def _choice(values: Sequence[str]) -> str:
    """Return the values, each once: they may be listed again after a sign."""
    plain = [value for value in values if not value.startswith(("!", "-"))]
    sign = next((value[0] for value in values if value not in plain), "")
    return f"{', '.join(plain)}{f' ({sign} may stand before it)' if sign else ''}"


def _bounds(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    return "" if low is None or high is None or high > _MAX_SHOWN_BOUND else f", {low} to {high}"
