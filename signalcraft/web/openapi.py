"""OpenAPI 3.1 description of the API, generated from the routes, schemas and refusals.

``OPERATIONS`` has an entry for each route: its request, responses and refusals.
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
from signalcraft.api.responses import NDJSON
from signalcraft.domain import errors
from signalcraft.domain.deliveries import MAX_ID
from signalcraft.domain.errors import Refusal
from signalcraft.groups.queries import SortKey
from signalcraft.web import openapi_schemas, problem_details

Shape = type[Schema] | None

_JSON: Final = "application/json"
_CONVERTER = re.compile(r"<(?:[^:<>]+:)?([a-z_]+)>")
_ID: Final = {"type": "integer", "minimum": 0, "maximum": MAX_ID}

_COMMON_REFUSALS = (errors.Unavailable, Refusal)
_CALLER_REFUSALS = (errors.BadToken, errors.TooManyRequests, *_COMMON_REFUSALS)
_BODY_REFUSALS = (
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
_LIST_REFUSALS = (errors.InvalidCursor, errors.InvalidFields, *_CALLER_REFUSALS)
_ITEM_REFUSALS = (errors.NotFound, errors.InvalidFields, *_CALLER_REFUSALS)
_SUBLIST_REFUSALS = (errors.NotFound, *_LIST_REFUSALS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The documentation of a route. ``responses`` has the successful ones, by status."""

    summary: str
    refusals: Sequence[type[Refusal]]
    query: Shape = None
    body: Shape = None
    responses: Mapping[int, Shape] = field(default_factory=lambda: MappingProxyType({200: None}))
    media: str = _JSON
    headers: Sequence[str] = ()
    is_open: bool = False


def _conditional_get(
    summary: str, response: type[Schema], refusals: Sequence[type[Refusal]], query: Shape = None
) -> Operation:
    return Operation(
        summary=summary,
        query=query,
        responses={200: response, 304: None},
        headers=("If-None-Match",),
        refusals=refusals,
    )


_RECEIVE = Operation(
    summary="Receive a delivery from Sentry.",
    body=Schema,
    responses={200: openapi_schemas.Receipt, 202: openapi_schemas.Receipt},
    refusals=(
        *_BODY_REFUSALS,
        errors.BadSignature,
        errors.ResourceMismatch,
        errors.UiComponentRequest,
        errors.TooManyRequests,
        *_COMMON_REFUSALS,
    ),
    is_open=True,
)

#: By the name of the route's Flask endpoint.
OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "webhooks.take_in": _RECEIVE,
        "groups.list_groups": _conditional_get(
            "List groups, a page at a time.", openapi_schemas.GroupsPage, _LIST_REFUSALS, request_schemas.GroupsQuery
        ),
        "groups.export_groups": Operation(
            summary="Export the groups that match the filters, a line of JSON each.",
            query=request_schemas.FilterQuery,
            responses={200: response_schemas.Group},
            media=NDJSON,
            refusals=(errors.InvalidFields, *_CALLER_REFUSALS),
        ),
        "groups.show_group": _conditional_get("Return a group.", response_schemas.Group, _ITEM_REFUSALS),
        "groups.change_group": Operation(
            summary="Update a group; with If-Match, only that version.",
            body=request_schemas.EditBody,
            responses={200: response_schemas.Group},
            headers=("If-Match",),
            refusals=(*_BODY_REFUSALS, *_ITEM_REFUSALS, errors.NotAllowed, errors.Conflict, errors.PreconditionFailed),
        ),
        "groups.change_groups": Operation(
            summary="Update many groups in one transaction, by ids or by filter.",
            body=request_schemas.BulkBody,
            responses={200: openapi_schemas.Outcomes},
            refusals=(*_BODY_REFUSALS, *_CALLER_REFUSALS, errors.InvalidCursor, errors.NotAllowed),
        ),
        "events.list_events": _conditional_get(
            "List the events of a group, newest first, a page at a time.",
            openapi_schemas.EventsPage,
            _SUBLIST_REFUSALS,
            request_schemas.PageQuery,
        ),
        "events.export_events": Operation(
            summary="Export the events of a group, a line of JSON each.",
            responses={200: response_schemas.Event},
            media=NDJSON,
            refusals=_ITEM_REFUSALS,
        ),
        "groups.list_history": _conditional_get(
            "List the changes of a group, with who made them, a page at a time.",
            openapi_schemas.ChangesPage,
            _SUBLIST_REFUSALS,
            request_schemas.PageQuery,
        ),
        "events.show_event": _conditional_get(
            "Return an event with its payload.", response_schemas.EventWithPayload, _ITEM_REFUSALS
        ),
        "events.explain_event": Operation(
            summary="Explain why an event is in its group.",
            responses={200: openapi_schemas.Explanation},
            refusals=_ITEM_REFUSALS,
        ),
        "stats.show_stats": _conditional_get(
            "Return the statistics of a period.",
            openapi_schemas.Stats,
            (errors.InvalidFields, *_CALLER_REFUSALS),
            request_schemas.StatsQuery,
        ),
        "events.preview_delivery": Operation(
            summary="Preview the outcome of a delivery without storing it.",
            body=Schema,
            responses={200: openapi_schemas.Preview},
            refusals=(*_BODY_REFUSALS, *_CALLER_REFUSALS, errors.ResourceMismatch, errors.UiComponentRequest),
        ),
        "operations.healthz": Operation(
            summary="Check that the process responds.",
            responses={200: openapi_schemas.State},
            refusals=(Refusal,),
            is_open=True,
        ),
        "operations.readyz": Operation(
            summary="Check that all dependencies work.",
            responses={200: openapi_schemas.State, 503: openapi_schemas.State},
            refusals=(Refusal,),
            is_open=True,
        ),
        "operations.show_metrics": Operation(
            summary="Return all metrics in Prometheus's text format.",
            media="text/plain",
            refusals=(errors.BadToken, errors.TooManyRequests, *_COMMON_REFUSALS),
            is_open=True,
        ),
        "docs.show_description": Operation(summary="Return this description.", refusals=_COMMON_REFUSALS, is_open=True),
        "docs.show_manual": Operation(
            summary="Return this description as HTML.", media="text/html", refusals=_COMMON_REFUSALS, is_open=True
        ),
        "docs.show_style": Operation(
            summary="Return the stylesheet of the HTML page.", media="text/css", refusals=_COMMON_REFUSALS, is_open=True
        ),
    },
)


def describe(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI description of ``app``."""
    plugin = MarshmallowPlugin(schema_name_resolver=_name)
    spec = APISpec("SignalCraft", "1", "3.1.0", plugins=[plugin], info={"description": "Alerts in, groups out."})
    converter = cast("OpenAPIConverter", plugin.converter)  # not None once the plugin is registered
    for function in (_as_choice, _as_time):
        converter.add_attribute_function(function)
    spec.components.security_scheme("token", {"type": "http", "scheme": "bearer"})
    spec.components.schema("Problem", schema=openapi_schemas.Problem)
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        spec.path(path=path_of(rule), operations={method_of(rule): _operation(rule, OPERATIONS[rule.endpoint])})
    description: dict[str, Any] = spec.to_dict()
    return description


def path_of(rule: Rule) -> str:
    """Return the path of a route in OpenAPI's notation."""
    return _CONVERTER.sub(r"{\1}", rule.rule)


def method_of(rule: Rule) -> str:
    """Return a route's one method besides HEAD and OPTIONS."""
    (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
    return method.lower()


def codes() -> dict[str, tuple[int, str]]:
    """Return the status and title of every stable code."""
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
        "responses": {**_refusal_responses(operation.refusals), **_success_responses(operation)},
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


def _success_responses(operation: Operation) -> dict[str, Any]:
    return {
        str(status): {
            "description": "Not modified." if status == 304 else operation.summary,
            **({} if status == 304 else {"content": {operation.media: _content(operation.media, shape)}}),
        }
        for status, shape in operation.responses.items()
    }


def _content(media: str, shape: Shape) -> dict[str, Any]:
    """Return the schema of a body.

    A stream of lines is only described in words.
    """
    if media == _JSON:
        return {"schema": shape or {"type": "object"}}
    return {"schema": {"type": "string", "description": f"A {shape.__name__} a line." if shape else ""}}


def _refusal_responses(refusals: Iterable[type[Refusal]]) -> dict[str, Any]:
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
    """Describe choice and sort fields, which apispec does not know."""
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
