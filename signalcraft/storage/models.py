"""The tables as Peewee models.

Migrations create the tables; a test compares them with these models. For connections see ``database``.
"""

from peewee import (
    SQL,
    BigIntegerField,
    BlobField,
    BooleanField,
    Check,
    CompositeKey,
    ForeignKeyField,
    Model,
    TextField,
)
from playhouse.postgres_ext import BinaryJSONField, DateTimeTZField

from signalcraft.sources import DEFAULT_SOURCE
from signalcraft.storage.database import database
from signalcraft.storage.fields import BigIdentityField, CompressedField


class DatabaseModel(Model):
    """A model of ``database``, with the key that it says."""

    class Meta:
        database = database
        legacy_table_names = False


class Table(DatabaseModel):
    """A table with an id that PostgreSQL counts up."""

    id = BigIdentityField()


class Workspace(Table):
    """A tenant."""

    slug = TextField()
    created_at = DateTimeTZField(constraints=[SQL("DEFAULT now()")])

    class Meta:
        constraints = [
            SQL("CONSTRAINT workspace_slug_key UNIQUE (slug)"),
            SQL("CONSTRAINT workspace_slug_check CHECK (slug ~ '^[a-z0-9][a-z0-9_-]{0,62}$')"),
        ]


class WebhookSecret(Table):
    """An encrypted key that verifies deliveries of a source, live until retired. A workspace may have several.

    ``kind`` is one of the source's. The default of ``source`` is for the release before, which knows one source.
    """

    workspace = ForeignKeyField(Workspace, index=False)
    source = TextField(constraints=[SQL(f"DEFAULT '{DEFAULT_SOURCE.NAME}'")])
    name = TextField()
    kind = TextField()
    value_encrypted = TextField()
    created_at = DateTimeTZField(constraints=[SQL("DEFAULT now()")])
    last_used_at = DateTimeTZField(null=True)
    retired_at = DateTimeTZField(null=True)

    class Meta:
        constraints = [
            SQL("CONSTRAINT webhook_secret_name_key UNIQUE (workspace_id, name)"),
        ]


class ApiToken(Table):
    """A bearer token of a workspace; only its hash is stored."""

    workspace = ForeignKeyField(Workspace, index=False)
    name = TextField()
    token_sha256 = TextField()
    can_write = BooleanField()
    created_at = DateTimeTZField(constraints=[SQL("DEFAULT now()")])
    last_used_at = DateTimeTZField(null=True)
    revoked_at = DateTimeTZField(null=True)

    class Meta:
        constraints = [
            SQL("CONSTRAINT api_token_name_key UNIQUE (workspace_id, name)"),
            SQL("CONSTRAINT api_token_token_sha256_key UNIQUE (token_sha256)"),
        ]


class SavedView(Table):
    """A list of groups that a workspace has named; ``query`` is its query string."""

    workspace = ForeignKeyField(Workspace, index=False)
    name = TextField()
    query = TextField()

    class Meta:
        constraints = [SQL("CONSTRAINT saved_view_name_key UNIQUE (workspace_id, name)")]


_SEVERITIES = "('info', 'low', 'med', 'high', 'critical')"


_NEWEST_FIRST = "last_seen_at DESC, id DESC"


class AlertGroup(Table):
    """Alerts that belong together.

    ``first_seen_at`` and ``last_seen_at`` are the earliest and latest ``received_at`` of its alerts;
    ``environment_is_assumed``: none of its alerts could name an environment; the first alert of its fingerprint that
    does takes it over. ``title_from`` and ``link_from`` rank the alerts whose title and link the group shows: the later
    wins, and a title of the source's own is before any other; a rank is empty if there is none. ``latest_event_id`` is
    superseded by them: it is there for the release before.
    ``alert_severity`` is the highest of its alerts; ``severity`` is that, one step up if it spiked.
    ``began_after`` is when the previous group was resolved: alerts received before then do not belong to this group.
    ``source_status_at`` is the time of the source's latest status change: earlier ones are ignored. A group that was
    resolved when the change came may lack it (``groups.source_updates``).
    ``assigned_at`` is the time of the latest assignment, by the source or a user.
    ``version`` increases with each change of state by a user, a source or an alert, not with each alert.
    """

    workspace = ForeignKeyField(Workspace, index=False)
    group_key = TextField()
    source = TextField()
    project = TextField()
    environment = TextField()
    environment_is_assumed = BooleanField(constraints=[SQL("DEFAULT false")])
    fingerprint = TextField()
    issue_id = TextField(null=True)
    title = TextField()
    title_from = TextField(collation='"C"', constraints=[SQL("DEFAULT ''")])
    link = TextField(null=True)
    link_from = TextField(collation='"C"', constraints=[SQL("DEFAULT ''")])
    severity = TextField()
    alert_severity = TextField()
    spiked = BooleanField(constraints=[SQL("DEFAULT false")])
    status = TextField(constraints=[SQL("DEFAULT 'open'")])
    is_current = BooleanField(constraints=[SQL("DEFAULT true")])
    count = BigIntegerField()
    source_count = BigIntegerField(null=True)
    first_seen_at = DateTimeTZField()
    last_seen_at = DateTimeTZField()
    latest_event_id = TextField(collation='"C"', constraints=[SQL("DEFAULT ''")])
    snoozed_until = DateTimeTZField(null=True)
    resolved_at = DateTimeTZField(null=True)
    source_status_at = DateTimeTZField(null=True)
    assigned_at = DateTimeTZField(null=True)
    began_after = DateTimeTZField(null=True)
    previous_group = ForeignKeyField("self", null=True, on_delete="SET NULL", index=False)
    assignee_user_id = TextField(null=True)
    runbook_url = TextField(null=True)
    version = BigIntegerField(constraints=[SQL("DEFAULT 1")])

    class Meta:
        constraints = [
            Check(f"severity IN {_SEVERITIES}", name="alert_group_severity_check"),
            Check(f"alert_severity IN {_SEVERITIES}", name="alert_group_alert_severity_check"),
            Check("status IN ('open', 'ack', 'resolved', 'snoozed')", name="alert_group_status_check"),
            Check("NOT (is_current AND status = 'resolved')", name="alert_group_current_check"),
            Check("(status = 'resolved') = (resolved_at IS NOT NULL)", name="alert_group_resolved_check"),
            Check("snoozed_until IS NULL OR status = 'snoozed'", name="alert_group_snoozed_check"),
            Check("first_seen_at <= last_seen_at", name="alert_group_seen_check"),
            Check("count > 0", name="alert_group_count_check"),
        ]
        indexes = [
            SQL(
                "CREATE UNIQUE INDEX alert_group_current_key ON alert_group (workspace_id, group_key) WHERE is_current"
            ),
            SQL(
                "CREATE INDEX alert_group_history ON alert_group (workspace_id, group_key, first_seen_at)"
                " WHERE NOT is_current",
            ),
            SQL("CREATE INDEX alert_group_issue ON alert_group (workspace_id, fingerprint, group_key)"),
            SQL(
                "CREATE INDEX alert_group_unresolved ON alert_group (workspace_id, source, fingerprint, id)"
                " WHERE status <> 'resolved'",
            ),
            SQL(
                "CREATE INDEX alert_group_assumed ON alert_group (workspace_id, source, fingerprint)"
                " WHERE environment_is_assumed",
            ),
            SQL(
                "CREATE INDEX alert_group_previous ON alert_group (previous_group_id)"
                " WHERE previous_group_id IS NOT NULL",
            ),
            SQL(f"CREATE INDEX alert_group_listing ON alert_group (workspace_id, {_NEWEST_FIRST}) INCLUDE (title)"),
            SQL("CREATE INDEX alert_group_export ON alert_group (workspace_id, id)"),
            SQL("CREATE INDEX alert_group_first_seen ON alert_group (workspace_id, first_seen_at DESC, id DESC)"),
            SQL("CREATE INDEX alert_group_size ON alert_group (workspace_id, count DESC, id DESC)"),
            SQL(
                "CREATE INDEX alert_group_rank ON alert_group (workspace_id, (CASE severity WHEN 'info' THEN 0"
                " WHEN 'low' THEN 1 WHEN 'med' THEN 2 WHEN 'high' THEN 3 WHEN 'critical' THEN 4 END) DESC, id DESC)",
            ),
            *(
                SQL(f"CREATE INDEX alert_group_{name} ON alert_group (workspace_id, {name}, {_NEWEST_FIRST})")
                for name in ("severity", "status", "project", "environment", "source")
            ),
            SQL(
                f"CREATE INDEX alert_group_assignee ON alert_group (workspace_id, assignee_user_id, {_NEWEST_FIRST})"
                " WHERE assignee_user_id IS NOT NULL",
            ),
        ]


class GroupChange(Table):
    """One change of a group's field: when, by whom (the name of a token or a source), old and new value, and why."""

    workspace = ForeignKeyField(Workspace, index=False)
    alert_group = ForeignKeyField(AlertGroup, index=False, on_delete="CASCADE")
    changed_at = DateTimeTZField()
    actor = TextField()
    changed_by = TextField()
    field = TextField()
    from_value = TextField(null=True)
    to_value = TextField(null=True)
    note = TextField(null=True)

    class Meta:
        constraints = [
            Check("actor IN ('token', 'source', 'alert', 'clock', 'slack')", name="group_change_actor_check"),
            Check(
                "field IN ('status', 'snoozed_until', 'assignee_user_id', 'runbook_url')",
                name="group_change_field_check",
            ),
            Check("char_length(note) <= 500", name="group_change_note_check"),
        ]
        indexes = [SQL("CREATE INDEX group_change_listing ON group_change (alert_group_id, id DESC)")]


class AlertEvent(Table):
    """One stored alert; ``delivery_id`` is its first delivery.

    Unless it ``names_environment``, project and environment are those of its group.
    ``tags_json`` is a list of pairs, ``triggered_rules`` a sorted list of the labels of the rules that sent it,
    ``payload_json`` the original body, compressed.
    """

    workspace = ForeignKeyField(Workspace, index=False)
    alert_group = ForeignKeyField(AlertGroup, index=False, deferrable="INITIALLY DEFERRED")
    source = TextField()
    source_event_id = TextField(collation='"C"')
    delivery_id = TextField()
    project = TextField()
    environment = TextField()
    names_environment = BooleanField(constraints=[SQL("DEFAULT true")])
    severity = TextField()
    fingerprint = TextField()
    issue_id = TextField(null=True)
    title = TextField()
    message = TextField()
    tags_json = BinaryJSONField(index=False)
    triggered_rules = BinaryJSONField(index=False)
    link = TextField(null=True)
    occurred_at = DateTimeTZField()
    received_at = DateTimeTZField()
    decision = TextField()
    payload_json = CompressedField(null=True)

    class Meta:
        constraints = [
            SQL("CONSTRAINT alert_event_identity_key UNIQUE (workspace_id, source, source_event_id)"),
            Check(f"severity IN {_SEVERITIES}", name="alert_event_severity_check"),
            Check(
                "decision IN ('new', 'joined', 'window_expired', 'after_resolved', 'snooze_ended')",
                name="alert_event_decision_check",
            ),
        ]
        indexes = [
            SQL("CREATE INDEX alert_event_group ON alert_event (alert_group_id, received_at DESC, id DESC)"),
            SQL("CREATE INDEX alert_event_age ON alert_event USING brin (received_at)"),
            SQL("CREATE INDEX alert_event_listing ON alert_event (workspace_id, received_at DESC, id DESC)"),
            SQL("CREATE INDEX alert_event_delivery_id ON alert_event (delivery_id)"),
        ]


class PurgedEvent(DatabaseModel):
    """The identity of an event that retention deleted (``sql.identity``): it counts no second time."""

    identity = BlobField(primary_key=True)


class Episode(Table):
    """An alert that lasts until its source says that it is over.

    ``alert_group`` is null while only its end was received, ``last_seen_at`` is when it was last received, -infinity
    until then. ``resolved_at`` is null while it lasts, else the first end since it last did; ``ended_at`` is its latest
    end.
    """

    workspace = ForeignKeyField(Workspace, index=False)
    source = TextField()
    source_event_id = TextField(collation='"C"')
    alert_group = ForeignKeyField(AlertGroup, null=True, index=False, on_delete="CASCADE")
    last_seen_at = DateTimeTZField()
    resolved_at = DateTimeTZField(null=True)
    ended_at = DateTimeTZField(null=True)

    class Meta:
        constraints = [SQL("CONSTRAINT episode_identity_key UNIQUE (workspace_id, source, source_event_id)")]
        indexes = [
            SQL("CREATE INDEX episode_end ON episode (alert_group_id, resolved_at)"),
            SQL(
                "CREATE INDEX episode_lasting ON episode (workspace_id, source, source_event_id)"
                " WHERE resolved_at IS NULL"
            ),
        ]


class LatestSourceUpdate(Table):
    """The latest ``StatusChange`` a source sent for one fingerprint, by kind of change.

    ``project`` is always empty: it is there for the release before. ``applied_at`` is when the latest one that was
    applied, at least to some groups, was received. ``applied_up_to`` is set while one is applied in steps.
    """

    workspace = ForeignKeyField(Workspace, index=False)
    source = TextField()
    fingerprint = TextField()
    project = TextField(constraints=[SQL("DEFAULT ''")])
    change = TextField()
    received_at = DateTimeTZField()
    snoozed_until = DateTimeTZField(null=True)
    assignee = TextField(null=True)
    source_count = BigIntegerField(null=True)
    applied_at = DateTimeTZField(null=True)
    applied_up_to = TextField(null=True)

    class Meta:
        table_name = "last_word"
        constraints = [
            SQL("CONSTRAINT last_word_key UNIQUE (workspace_id, source, fingerprint, project, change)"),
        ]
        indexes = [
            SQL("CREATE INDEX last_word_unfinished ON last_word (received_at) WHERE applied_up_to IS NOT NULL"),
        ]


class HourlyCount(DatabaseModel):
    """Counts of one hour: alerts, duplicates among them, groups opened, and groups joined (once per batch)."""

    workspace = ForeignKeyField(Workspace, index=False)
    hour = DateTimeTZField()
    project = TextField()
    environment = TextField()
    severity = TextField()
    alerts = BigIntegerField()
    duplicates = BigIntegerField()
    groups_new = BigIntegerField()
    groups_updated = BigIntegerField()

    class Meta:
        primary_key = CompositeKey("workspace", "hour", "project", "environment", "severity")


class GroupHour(DatabaseModel):
    """How many stored alerts a group got in one hour of UTC, by ``received_at``."""

    alert_group = ForeignKeyField(AlertGroup, index=False, on_delete="CASCADE")
    hour = DateTimeTZField()
    alerts = BigIntegerField()

    class Meta:
        primary_key = CompositeKey("alert_group", "hour")


TABLES = (
    Workspace,
    WebhookSecret,
    ApiToken,
    SavedView,
    AlertGroup,
    GroupChange,
    AlertEvent,
    PurgedEvent,
    Episode,
    LatestSourceUpdate,
    HourlyCount,
    GroupHour,
)
