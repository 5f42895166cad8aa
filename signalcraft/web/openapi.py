"""OpenAPI 3.1 description of the API, generated from the routes, schemas and refusals.

``OPERATIONS`` has an entry for each route: its request, responses and refusals.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from flask import Flask
from marshmallow import Schema
from werkzeug.routing import Rule

from signalcraft.api import request_schemas, response_schemas
from signalcraft.api.responses import NDJSON
from signalcraft.domain import errors
from signalcraft.domain.deliveries import MAX_ID
from signalcraft.domain.errors import Refusal
from signalcraft.groups.reading import group_schema, requests
from signalcraft.sources import SOURCES
from signalcraft.web import openapi_schemas, problem_details
from signalcraft.web.openapi_examples import DELIVERY, PREVIEWED, add_examples
from signalcraft.web.openapi_fields import ATTRIBUTE_FUNCTIONS
from signalcraft.web.openapi_operation import JSON, Operation, Shape
from signalcraft.web.openapi_routes import method_of, path_of, rules, tag_of
from signalcraft.web.openapi_words import DELIVERY_HEADERS, PREVIEW_HEADERS, TAGS, WORDS

_ID: Final = {"type": "integer", "minimum": 0, "maximum": MAX_ID}

_WITHOUT_BODY: Final[Mapping[int, str]] = {303: "Look at Location.", 304: "Not modified."}

_COMMON_REFUSALS = (errors.UriTooLong, errors.Unavailable, Refusal)
_OPEN_REFUSALS = (errors.TooManyRequests, *_COMMON_REFUSALS)
_CALLER_REFUSALS = (errors.BadToken, *_OPEN_REFUSALS)
_OBJECT_REFUSALS = (
    errors.BodyNotJson,
    errors.BodyNotObject,
    errors.BodyTooDeep,
    errors.BodyTooManyValues,
    errors.BodyNumberTooLong,
    errors.BodyDuplicateKey,
    errors.LengthRequired,
    errors.BodyTooLarge,
)
_BODY_REFUSALS = (*_OBJECT_REFUSALS, errors.UnsupportedMedia, errors.InvalidFields)
_SOURCE_REFUSALS = tuple(refusal for source in SOURCES.values() for refusal in source.REFUSALS)
_LIST_REFUSALS = (errors.InvalidCursor, errors.InvalidFields, *_CALLER_REFUSALS)
_ITEM_REFUSALS = (errors.NotFound, errors.InvalidFields, *_CALLER_REFUSALS)
_SUBLIST_REFUSALS = (errors.NotFound, *_LIST_REFUSALS)


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
    summary="Receive a delivery from a source.",
    body=Schema,
    request_example=DELIVERY,
    headers=DELIVERY_HEADERS,
    responses={200: openapi_schemas.Receipt, 202: openapi_schemas.Receipt},
    response_examples={
        200: {"status": "duplicate", "delivery_id": "0b9f4c1e7a8d4f6f9d3c2b1a09e8d7c6"},
        202: {"status": "accepted", "delivery_id": "0b9f4c1e7a8d4f6f9d3c2b1a09e8d7c6"},
    },
    refusals=(
        *_BODY_REFUSALS,
        errors.BadSignature,
        *_SOURCE_REFUSALS,
        errors.NotFound,
        errors.TooManyRequests,
        *_COMMON_REFUSALS,
    ),
    is_open=True,
)

#: By the name of the route's Flask endpoint.
OPERATIONS: Final[Mapping[str, Operation]] = {
    "webhooks.take_in": _RECEIVE,
    "groups.list_groups": _conditional_get(
        "List groups, a page at a time.", openapi_schemas.GroupsPage, _LIST_REFUSALS, requests.GroupsQuery
    ),
    "groups.export_groups": Operation(
        summary="Export the groups that match the filters, a line of JSON each.",
        query=requests.FilterQuery,
        responses={200: group_schema.Group},
        media=NDJSON,
        refusals=(errors.InvalidFields, *_CALLER_REFUSALS),
    ),
    "groups.summarize_groups": _conditional_get(
        "Count the groups that match the filters, by status and other facets.",
        openapi_schemas.Summary,
        (errors.InvalidFields, *_CALLER_REFUSALS),
        requests.FilterQuery,
    ),
    "groups.show_group": _conditional_get("Return a group.", group_schema.Group, _ITEM_REFUSALS),
    "groups.change_group": Operation(
        summary="Update a group; with If-Match, only that version.",
        body=requests.EditBody,
        request_example={"status": "ack", "note": "Waiting for the payment provider."},
        responses={200: group_schema.Group},
        headers=("If-Match",),
        refusals=(*_BODY_REFUSALS, *_ITEM_REFUSALS, errors.NotAllowed, errors.Conflict, errors.PreconditionFailed),
    ),
    "groups.change_groups": Operation(
        summary="Update many groups in one transaction, by ids or by filter.",
        body=request_schemas.BulkBody,
        request_example={"filter": {"project": "shop", "status": ["open", "ack"]}, "set": {"status": "resolved"}},
        responses={200: openapi_schemas.Outcomes},
        refusals=(*_BODY_REFUSALS, *_CALLER_REFUSALS, errors.InvalidCursor, errors.NotAllowed),
    ),
    "events.find_events": _conditional_get(
        "List the events of the workspace, newest first, a page at a time.",
        openapi_schemas.EventsPage,
        _LIST_REFUSALS,
        request_schemas.EventsQuery,
    ),
    "events.list_events": _conditional_get(
        "List the events of a group, newest first, a page at a time.",
        openapi_schemas.EventsPage,
        _SUBLIST_REFUSALS,
        requests.PageQuery,
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
        requests.PageQuery,
    ),
    "groups.list_occurrences": _conditional_get(
        "List the groups of the same key, and say how often the problem was seen.",
        openapi_schemas.OccurrencesPage,
        _SUBLIST_REFUSALS,
        requests.PageQuery,
    ),
    "notifications.find_notifications": _conditional_get(
        "List the notifications of the workspace, newest first, a page at a time.",
        openapi_schemas.NotificationsPage,
        _LIST_REFUSALS,
        request_schemas.NotificationsQuery,
    ),
    "notifications.list_notifications": _conditional_get(
        "List the notifications of a group with each attempt, newest first, a page at a time.",
        openapi_schemas.NotificationsPage,
        _SUBLIST_REFUSALS,
        request_schemas.GroupNotificationsQuery,
    ),
    "events.show_event": _conditional_get(
        "Return an event with its payload.", response_schemas.EventWithPayload, _ITEM_REFUSALS
    ),
    "events.explain_event": Operation(
        summary="Explain why an event is in its group; an id of the source or of the delivery will do, too.",
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
        request_example=DELIVERY,
        query=request_schemas.PreviewQuery,
        headers=PREVIEW_HEADERS,
        responses={200: openapi_schemas.Preview},
        response_examples={200: {"outcomes": [PREVIEWED], "warnings": []}},
        refusals=(*_BODY_REFUSALS, *_CALLER_REFUSALS, *_SOURCE_REFUSALS),
    ),
    "slack.apply_action": Operation(
        summary="Apply what a person pressed in Slack; only Slack calls it.",
        body=openapi_schemas.SlackForm,
        body_media="application/x-www-form-urlencoded",
        request_example={"payload": '{"type":"block_actions","actions":[{"action_id":"ack","value":"41"}]}'},
        headers=("X-Slack-Signature", "X-Slack-Request-Timestamp"),
        media="",
        refusals=(*_OBJECT_REFUSALS, errors.BadSignature, errors.NotFound, *_OPEN_REFUSALS),
        is_open=True,
    ),
    "operations.healthz": Operation(
        summary="Check that the process responds.",
        responses={200: openapi_schemas.State},
        refusals=(errors.UriTooLong, Refusal),
        is_open=True,
    ),
    "operations.readyz": Operation(
        summary="Check that all dependencies work.",
        responses={200: openapi_schemas.State, 503: openapi_schemas.State},
        response_examples={
            200: {"status": "ok", "redis": {"state": "ok", "ms": 0.4, "loses": []}},
            503: {"status": "unavailable", "redis": {"state": "away", "ms": 0.4, "loses": []}},
        },
        refusals=(errors.UriTooLong, Refusal),
        is_open=True,
    ),
    "operations.show_metrics": Operation(
        summary="Return all metrics in Prometheus's text format.",
        media="text/plain",
        response_examples={200: "signalcraft_groups_created_total 17\n"},
        refusals=(errors.BadToken, errors.TooManyRequests, *_COMMON_REFUSALS),
        is_open=True,
    ),
    "docs.show_start": Operation(
        summary="Go to the pages; without them, say what this is and where to go on.",
        media="text/plain",
        responses={200: None, 303: None},
        response_examples={200: "This is SignalCraft.\n"},
        refusals=_OPEN_REFUSALS,
        is_open=True,
    ),
    "docs.show_description": Operation(
        summary="Return this description.",
        response_examples={200: {"openapi": "3.1.0", "info": {"title": "SignalCraft", "version": "1"}, "paths": {}}},
        refusals=_OPEN_REFUSALS,
        is_open=True,
    ),
    "docs.show_manual": Operation(
        summary="Return this description as HTML.",
        media="text/html",
        response_examples={200: '<!doctype html>\n<html lang="en">…'},
        refusals=_OPEN_REFUSALS,
        is_open=True,
    ),
    "docs.show_style": Operation(
        summary="Return the stylesheet of the HTML page.",
        media="text/css",
        response_examples={200: "body { max-width: 60rem }"},
        refusals=_OPEN_REFUSALS,
        is_open=True,
    ),
}


def describe(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI description of ``app``."""
    plugin = MarshmallowPlugin(schema_name_resolver=_name)
    spec = APISpec("SignalCraft", "1", "3.1.0", plugins=[plugin], info={"description": "Alerts in, groups out."})
    converter = cast("OpenAPIConverter", plugin.converter)  # not None once the plugin is registered
    for function in ATTRIBUTE_FUNCTIONS:
        converter.add_attribute_function(function)
    spec.components.security_scheme("token", {"type": "http", "scheme": "bearer"})
    spec.components.schema("Problem", schema=openapi_schemas.Problem)
    for name, description in TAGS.items():
        spec.tag({"name": name, "description": description})
    for rule in sorted(rules(app), key=lambda rule: (list(TAGS).index(tag_of(rule)), rule.rule)):
        spec.path(path=path_of(rule), operations={method_of(rule): _operation(rule, OPERATIONS[rule.endpoint])})
    described: dict[str, Any] = spec.to_dict()
    add_examples(described)
    return described


def codes() -> dict[str, tuple[int, str]]:
    """Return the status and title of every stable code."""
    refusals: list[type[Refusal]] = [Refusal, *Refusal.__subclasses__()]
    return {refusal.code: (refusal.status, refusal.title) for refusal in refusals} | dict(
        problem_details.FRAMEWORK_CODES
    )


def common_codes(description: Mapping[str, Any]) -> frozenset[str]:
    """Return the codes that every call of the API may answer."""
    return frozenset.intersection(
        *(
            frozenset(code for response in operation["responses"].values() for code in response.get("x-codes", ()))
            for path, methods in description["paths"].items()
            for operation in methods.values()
            if path.startswith("/api/")
        )
    )


def _operation(rule: Rule, operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": f"{rule.endpoint.partition('.')[2]}{'_of_workspace' if 'workspace' in rule.arguments else ''}",
        "tags": [tag_of(rule)],
        "parameters": _parameters(rule, operation),
        "responses": {**_refusal_responses(operation.refusals), **_success_responses(operation)},
    }
    if operation.body is not None:
        shape = {"type": "object"} if operation.body is Schema else operation.body
        content = {"schema": shape, "example": operation.request_example}
        described["requestBody"] = {"required": True, "content": {operation.body_media: content}}
    if not operation.is_open:
        described["security"] = [{"token": []}]
    return described


def _parameters(rule: Rule, operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        _parameter("path", name, _path_schema(name), required=True) for name in sorted(rule.arguments)
    ]
    found += [_parameter("header", name, {"type": "string"}) for name in operation.headers]
    if operation.query is not None:
        found.append({"in": "query", "schema": operation.query})
    return found


def _path_schema(name: str) -> dict[str, Any]:
    if name == "source":
        return {"type": "string", "enum": list(SOURCES)}
    return _ID if name.endswith("_id") else {"type": "string"}


def _parameter(place: str, name: str, schema: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
    description, example = WORDS[name]
    described = {"in": place, "name": name, "description": description, "example": example, "schema": schema}
    return described | ({"required": True} if required else {})


def _success_responses(operation: Operation) -> dict[str, Any]:
    return {
        str(status): {
            "description": _WITHOUT_BODY.get(status, operation.summary),
            **(
                {}
                if status in _WITHOUT_BODY or not operation.media
                else {"content": {operation.media: _content(operation, status, shape)}}
            ),
        }
        for status, shape in operation.responses.items()
    }


def _content(operation: Operation, status: int, shape: Shape) -> dict[str, Any]:
    """Return the schema of a body.

    A stream of lines is only described in words.
    """
    given = operation.response_examples
    example = {"example": given[status]} if status in given else {}
    if operation.media == JSON:
        return {"schema": shape or {"type": "object"}, **example}
    if shape is None:
        return {"schema": {"type": "string"}, **example}
    return {"schema": {"type": "string", "description": f"A {shape.__name__} a line."}, "x-line": shape.__name__}


def _refusal_responses(refusals: Iterable[type[Refusal]]) -> dict[str, Any]:
    by_status: dict[int, dict[str, str]] = {}
    for refusal in refusals:
        by_status.setdefault(refusal.status, {})[refusal.code] = refusal.title
    for code, (status, title) in problem_details.FRAMEWORK_CODES.items():
        by_status.setdefault(status, {}).setdefault(code, title)
    return {
        str(status): {
            "description": " ".join(f"`{code}`: {title}" for code, title in named.items()),
            "content": {
                problem_details.MEDIA_TYPE: {
                    "schema": openapi_schemas.Problem,
                    "example": _example_problem(status, named),
                }
            },
            "x-codes": list(named),
        }
        for status, named in sorted(by_status.items())
    }


def _example_problem(status: int, named: Mapping[str, str]) -> dict[str, Any]:
    code, title = next(iter(named.items()))
    return problem_details.with_type({"title": title, "status": status, "code": code})


def _name(schema: object) -> str:
    return schema.__name__ if isinstance(schema, type) else type(schema).__name__
