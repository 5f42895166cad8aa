"""The description of the API (OpenAPI 3.1), put together from the routes, the schemas and the refusals.

``OPERATIONS`` has one entry for each route: what it takes, what it answers and how it says no.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, cast

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from flask import Flask
from marshmallow import Schema
from werkzeug.routing import Rule

from signalcraft.api import request_schemas, response_schemas
from signalcraft.api.request_fields import ChoiceField, MomentField, SortField
from signalcraft.domain import errors
from signalcraft.domain.errors import Refusal
from signalcraft.groups.queries import SortKey
from signalcraft.web import openapi_schemas, problem_details

Shape = type[Schema] | None

NDJSON: Final = "application/x-ndjson"
_JSON: Final = "application/json"
_CONVERTER = re.compile(r"<(?:[^:<>]+:)?([a-z_]+)>")
_ID: Final = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}

_ALWAYS = (errors.Unavailable, Refusal)
_CALLER = (errors.BadToken, errors.TooManyRequests, *_ALWAYS)
_BODY = (
    errors.BodyNotJson,
    errors.BodyNotObject,
    errors.BodyTooDeep,
    errors.BodyTooManyValues,
    errors.BodyNumberTooLong,
    errors.BodyDuplicateKey,
    errors.LengthRequired,
    errors.BodyTooLarge,
    errors.UnsupportedMedia,
    errors.InvalidFields,
)
_LIST = (errors.InvalidCursor, errors.InvalidFields, *_CALLER)
_ONE = (errors.NotFound, errors.InvalidFields, *_CALLER)
_SOME_LIST = (errors.NotFound, *_LIST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A route: what it is for, what it takes, its good answers by status, its refusals, and its request headers."""

    summary: str
    refusals: Sequence[type[Refusal]]
    query: Shape = None
    body: Shape = None
    answers: Mapping[int, Shape] = field(default_factory=lambda: MappingProxyType({200: None}))
    media: str = _JSON
    headers: Sequence[str] = ()
    is_open: bool = False


def _polled(summary: str, answer: type[Schema], refusals: Sequence[type[Refusal]], query: Shape = None) -> Operation:
    return Operation(
        summary=summary,
        query=query,
        answers={200: answer, 304: None},
        headers=("If-None-Match",),
        refusals=refusals,
    )


_TAKE_IN = Operation(
    summary="Take a delivery of Sentry's in.",
    body=Schema,
    answers={200: openapi_schemas.Receipt, 202: openapi_schemas.Receipt},
    refusals=(
        *_BODY,
        errors.BadSignature,
        errors.ResourceMismatch,
        errors.UiComponentRequest,
        errors.TooManyRequests,
        *_ALWAYS,
    ),
    is_open=True,
)

#: By the name that Flask has for the route.
OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "webhooks.take_in": _TAKE_IN,
        "groups.list_groups": _polled(
            "A page of groups.", openapi_schemas.GroupsPage, _LIST, request_schemas.GroupsQuery
        ),
        "groups.export_groups": Operation(
            summary="All groups that the filters mean, a line of JSON each.",
            query=request_schemas.FilterQuery,
            answers={200: response_schemas.Group},
            media=NDJSON,
            refusals=(errors.InvalidFields, *_CALLER),
        ),
        "groups.show_group": _polled("A group.", response_schemas.Group, _ONE),
        "groups.change_group": Operation(
            summary="Change a group, with If-Match only as it was seen.",
            body=request_schemas.EditBody,
            answers={200: response_schemas.Group},
            headers=("If-Match",),
            refusals=(*_BODY, *_ONE, errors.NotAllowed, errors.Conflict, errors.PreconditionFailed),
        ),
        "groups.change_groups": Operation(
            summary="Change many groups in one transaction, by ids or by filter.",
            body=request_schemas.BulkBody,
            answers={200: openapi_schemas.Outcomes},
            refusals=(*_BODY, *_CALLER, errors.InvalidCursor, errors.NotAllowed),
        ),
        "events.list_events": _polled(
            "A page of a group's events, newest first.",
            openapi_schemas.EventsPage,
            _SOME_LIST,
            request_schemas.PageQuery,
        ),
        "events.export_events": Operation(
            summary="All events of a group, a line of JSON each.",
            answers={200: response_schemas.Event},
            media=NDJSON,
            refusals=_ONE,
        ),
        "groups.list_history": _polled(
            "A page of what was changed of a group, and by whom.",
            openapi_schemas.ChangesPage,
            _SOME_LIST,
            request_schemas.PageQuery,
        ),
        "events.show_event": _polled("An event with what was sent.", response_schemas.EventWithPayload, _ONE),
        "events.explain_event": Operation(
            summary="Why an event is where it is, in words.", answers={200: openapi_schemas.Explanation}, refusals=_ONE
        ),
        "stats.show_stats": _polled(
            "What came in during a period, and what became of it.",
            openapi_schemas.Stats,
            (errors.InvalidFields, *_CALLER),
            request_schemas.StatsQuery,
        ),
        "events.preview_delivery": Operation(
            summary="Where a delivery would land, were it sent now.",
            body=Schema,
            answers={200: openapi_schemas.Preview},
            refusals=(*_BODY, *_CALLER, errors.ResourceMismatch, errors.UiComponentRequest),
        ),
        "operations.healthz": Operation(
            summary="Whether this process answers at all.",
            answers={200: openapi_schemas.State},
            refusals=(Refusal,),
            is_open=True,
        ),
        "operations.readyz": Operation(
            summary="Whether what we need is there.",
            answers={200: openapi_schemas.State, 503: openapi_schemas.State},
            refusals=(Refusal,),
            is_open=True,
        ),
        "operations.show_metrics": Operation(
            summary="All that is counted, in Prometheus's text format.",
            media="text/plain",
            refusals=(errors.BadToken, errors.TooManyRequests, *_ALWAYS),
            is_open=True,
        ),
        "docs.show_description": Operation(summary="This description.", refusals=_ALWAYS, is_open=True),
        "docs.show_manual": Operation(
            summary="This description, to read.", media="text/html", refusals=_ALWAYS, is_open=True
        ),
        "docs.show_style": Operation(summary="How that page looks.", media="text/css", refusals=_ALWAYS, is_open=True),
    },
)


def describe(app: Flask) -> dict[str, Any]:
    """The description of ``app``, as JSON has it."""
    plugin = MarshmallowPlugin(schema_name_resolver=_name)
    spec = APISpec("SignalCraft", "1", "3.1.0", plugins=[plugin], info={"description": "Alerts in, groups out."})
    converter = cast("OpenAPIConverter", plugin.converter)  # there since the spec took the plugin in
    for function in (_as_choice, _as_time):
        converter.add_attribute_function(function)
    spec.components.security_scheme("token", {"type": "http", "scheme": "bearer"})
    spec.components.schema("Problem", schema=openapi_schemas.Problem)
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        spec.path(path=path_of(rule), operations={method_of(rule): _operation(rule, OPERATIONS[rule.endpoint])})
    description: dict[str, Any] = spec.to_dict()
    return description


def path_of(rule: Rule) -> str:
    """A route's path as OpenAPI writes it."""
    return _CONVERTER.sub(r"{\1}", rule.rule)


def method_of(rule: Rule) -> str:
    """A route's one method of its own."""
    (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
    return method.lower()


def codes() -> dict[str, tuple[int, str]]:
    """Every stable code, with its status and what it means."""
    refusals: list[type[Refusal]] = [Refusal, *Refusal.__subclasses__()]
    return {refusal.code: (refusal.status, refusal.title) for refusal in refusals} | dict(
        problem_details.FRAMEWORK_CODES
    )


def _operation(rule: Rule, operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": f"{rule.endpoint.partition('.')[2]}{'_of_workspace' if 'workspace' in rule.arguments else ''}",
        "tags": [rule.endpoint.partition(".")[0]],
        "parameters": _parameters(rule, operation),
        "responses": {**_refused(operation.refusals), **_answered(operation)},
    }
    if operation.body is not None:
        shape = {"type": "object"} if operation.body is Schema else operation.body
        described["requestBody"] = {"required": True, "content": {_JSON: {"schema": shape}}}
    if not operation.is_open:
        described["security"] = [{"token": []}]
    return described


def _parameters(rule: Rule, operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"in": "path", "name": name, "required": True, "schema": _ID if name.endswith("_id") else {"type": "string"}}
        for name in sorted(rule.arguments)
    ]
    found += [{"in": "header", "name": name, "schema": {"type": "string"}} for name in operation.headers]
    if operation.query is not None:
        found.append({"in": "query", "schema": operation.query})
    return found


def _answered(operation: Operation) -> dict[str, Any]:
    return {
        str(status): {
            "description": "Not modified." if status == 304 else operation.summary,
            **({} if status == 304 else {"content": {operation.media: _content(operation.media, shape)}}),
        }
        for status, shape in operation.answers.items()
    }


def _content(media: str, shape: Shape) -> dict[str, Any]:
    """Of a stream of lines, the schema is that of a line, and told in words."""
    if media == _JSON:
        return {"schema": shape or {"type": "object"}}
    return {"schema": {"type": "string", "description": f"A {shape.__name__} a line." if shape else ""}}


def _refused(refusals: Iterable[type[Refusal]]) -> dict[str, Any]:
    by_status: dict[int, dict[str, str]] = {}
    for refusal in refusals:
        by_status.setdefault(refusal.status, {})[refusal.code] = refusal.title
    for code, (status, title) in problem_details.FRAMEWORK_CODES.items():
        by_status.setdefault(status, {}).setdefault(code, title)
    return {
        str(status): {
            "description": " ".join(f"`{code}`: {title}" for code, title in named.items()),
            "content": {problem_details.MEDIA_TYPE: {"schema": openapi_schemas.Problem}},
        }
        for status, named in sorted(by_status.items())
    }


def _name(schema: object) -> str:
    return schema.__name__ if isinstance(schema, type) else type(schema).__name__


def _as_choice(_: object, field: object, **__: object) -> dict[str, Any]:
    """Choices and sorts, of which marshmallow knows nothing."""
    if isinstance(field, SortField):
        return {"type": "string", "enum": [sign + key for key in SortKey for sign in ("", "-")]}
    if not isinstance(field, ChoiceField):
        return {}
    names = {"enum": [sign + name for name in field.of for sign in ("", "!")]} if field.of else {"minLength": 1}
    return {"type": "array", "items": {"type": "string", **names}, "minItems": 1, "maxItems": 50}


def _as_time(_: object, field: object, **__: object) -> dict[str, Any]:
    if isinstance(field, response_schemas.TimeField):
        kind = ["string", "null"] if field.allow_none else "string"
        return {"type": kind, "format": "date-time"}
    return {"format": "date-time"} if isinstance(field, MomentField) else {}
