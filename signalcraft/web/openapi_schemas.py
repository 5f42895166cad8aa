"""Response schemas for OpenAPI. ``response_schemas`` writes the responses; tests compare both with schemathesis."""

from marshmallow import INCLUDE, Schema, fields, validate

from signalcraft.api import response_schemas
from signalcraft.domain.alerts import Decision
from signalcraft.domain.deliveries import DeliveryStatus
from signalcraft.groups.reading import group_schema


def _text(*, null: bool = False) -> fields.String:
    return fields.String(required=True, allow_none=null)


def _number(*, null: bool = False) -> fields.Integer:
    return fields.Integer(required=True, allow_none=null)


class Problem(Schema):
    """RFC 9457, ``application/problem+json``: ``code`` is stable, the texts are not."""

    type = _text()
    title = _text()
    status = _number()
    code = _text()
    detail = fields.String()
    errors = fields.Dict(keys=fields.String(), values=fields.List(fields.String()))


class Receipt(Schema):
    """The result of a delivery."""

    status = fields.String(required=True, validate=validate.OneOf([status.value for status in DeliveryStatus]))
    delivery_id = fields.String()
    reason = fields.String()


class GroupsPage(Schema):
    """A page of groups."""

    groups = fields.List(fields.Nested(group_schema.Group), required=True)
    next_cursor = _text(null=True)
    total_estimate = fields.Integer()


class OccurrencesPage(Schema):
    """A page of the groups of one key, with how often the problem was seen in 30 days."""

    seen = fields.Nested(response_schemas.Seen, required=True)
    groups = fields.List(fields.Nested(group_schema.Group), required=True)
    next_cursor = _text(null=True)


class FacetCount(Schema):
    """The number of groups with a value."""

    groups = _number()


class StatusCount(FacetCount):
    """The number of groups with a status."""

    status = _text()


class SeverityCount(FacetCount):
    """The number of groups with a severity."""

    severity = _text()


class EnvironmentCount(FacetCount):
    """The number of groups of an environment."""

    environment = _text()


class ProjectCount(FacetCount):
    """The number of groups of a project."""

    project = _text()


class SourceCount(FacetCount):
    """The number of groups of a source."""

    source = _text()


class Summary(Schema):
    """How many groups match, and how many have each value of a facet."""

    groups = _number()
    complete = fields.Boolean(required=True)
    by_status = fields.List(fields.Nested(StatusCount), required=True)
    by_severity = fields.List(fields.Nested(SeverityCount), required=True)
    by_environment = fields.List(fields.Nested(EnvironmentCount), required=True)
    by_project = fields.List(fields.Nested(ProjectCount), required=True)
    by_source = fields.List(fields.Nested(SourceCount), required=True)


class EventsPage(Schema):
    """A page of events without their payloads."""

    events = fields.List(fields.Nested(response_schemas.Event), required=True)
    next_cursor = _text(null=True)


class ChangesPage(Schema):
    """A page of a group's history, newest first."""

    changes = fields.List(fields.Nested(response_schemas.Change), required=True)
    next_cursor = _text(null=True)


class NotificationsPage(Schema):
    """A page of notifications, newest first."""

    notifications = fields.List(fields.Nested(response_schemas.Notification), required=True)
    next_cursor = _text(null=True)


class Outcome(Schema):
    """The result for a group of a bulk update; ``code`` and ``detail`` are those of a problem, or null."""

    id = _number()
    status = _number()
    code = _text(null=True)
    detail = _text(null=True)


class Outcomes(Schema):
    """The results of a bulk update; if ``more``, the filter may match more groups, after ``next_cursor``."""

    results = fields.List(fields.Nested(Outcome), required=True)
    more = fields.Boolean(required=True)
    next_cursor = _text(null=True)


class KeyParts(Schema):
    """The components of a group key."""

    source = _text()
    project = _text()
    environment = _text()
    fingerprint = _text()


class Explanation(Schema):
    """Why an event is in its group."""

    event_id = _number()
    group_id = _number()
    decision = fields.String(required=True, validate=validate.OneOf([decision.value for decision in Decision]))
    group_key = _text()
    key_parts = fields.Nested(KeyParts, required=True)
    explanation = fields.List(fields.String(), required=True)


class Warned(Schema):
    """An invalid value in a delivery that is no reason to refuse it."""

    field = _text()
    problem = _text()


class Previewed(Schema):
    """The outcome for an alert; for a status change only ``kind``, ``change`` and ``fingerprint``."""

    kind = fields.String(required=True, validate=validate.OneOf(["alert", "status_change"]))
    duplicate = fields.Boolean()
    decision = fields.String(allow_none=True, validate=validate.OneOf([decision.value for decision in Decision]))
    group_id = fields.Integer(allow_none=True)
    group_key = fields.String()
    key_parts = fields.Nested(KeyParts)
    source_event_id = fields.String()
    severity = fields.String()
    title = fields.String()
    link = fields.String(allow_none=True)
    change = fields.String()
    fingerprint = fields.String()


class Preview(Schema):
    """The outcome of a previewed delivery: an object for each alert or status change."""

    outcomes = fields.List(fields.Nested(Previewed), required=True)
    warnings = fields.List(fields.Nested(Warned), required=True)


class HourSums(response_schemas.Sums):
    """The sums of an hour."""

    hour = group_schema.TimeField(required=True)


class SeveritySums(response_schemas.Sums):
    """The sums of a severity."""

    severity = _text()


class EnvironmentSums(response_schemas.Sums):
    """The sums of an environment."""

    environment = _text()


class ProjectSums(response_schemas.Sums):
    """The sums of a project."""

    project = _text()


class TopGroup(Schema):
    """One of the largest groups."""

    id = _number()
    title = _text()
    count = _number()


class Stats(response_schemas.Sums):
    """The statistics of a period."""

    since = group_schema.TimeField(required=True)
    until = group_schema.TimeField(required=True)
    by_hour = fields.List(fields.Nested(HourSums), required=True)
    by_severity = fields.List(fields.Nested(SeveritySums), required=True)
    by_environment = fields.List(fields.Nested(EnvironmentSums), required=True)
    by_project = fields.List(fields.Nested(ProjectSums), required=True)
    top_groups = fields.List(fields.Nested(TopGroup), required=True)


class SlackForm(Schema):
    """What Slack sends when somebody presses a button."""

    payload = _text()


class State(Schema):
    """The state of a process: ``status``, and each component."""

    status = _text()

    class Meta:
        """Components are fields too."""

        unknown = INCLUDE
