"""The tables of notifications as Peewee models."""

from peewee import SQL, BigIntegerField, BooleanField, Check, ForeignKeyField, SmallIntegerField, TextField
from playhouse.postgres_ext import ArrayField, DateTimeTZField

from signalcraft.storage.models import AlertGroup, DatabaseModel, Table, Workspace

_HAPPENINGS = (
    "('opened', 'recurred', 'regressed', 'escalated', 'acked', 'snoozed', 'snooze_ended', 'resolved', 'reopened',"
    " 'assigned')"
)


class Happening(Table):
    """Something that happened to a group and that people may be told of; ``event_id`` is the alert that caused it.

    ``routed_at`` is when the notifier decided whom it concerns, null until then.
    """

    workspace = ForeignKeyField(Workspace, index=False)
    alert_group = ForeignKeyField(AlertGroup, index=False, on_delete="CASCADE")
    event_id = BigIntegerField(null=True)
    kind = TextField()
    at = DateTimeTZField()
    actor = TextField()
    by = TextField()
    routed_at = DateTimeTZField(null=True)

    class Meta:
        constraints = [
            Check(f"kind IN {_HAPPENINGS}", name="happening_kind_check"),
            Check("actor IN ('token', 'source', 'alert', 'clock', 'slack')", name="happening_actor_check"),
        ]
        indexes = [
            SQL("CREATE INDEX happening_unrouted ON happening (id) WHERE routed_at IS NULL"),
            SQL("CREATE INDEX happening_listing ON happening (alert_group_id, id)"),
        ]


class Notification(Table):
    """One message to one receiver. Of mode ``card`` it is one for each group, edited; ``digest`` covers others.

    ``reply`` is one in the thread of a card. ``urgency`` is 1 for a group that escalated, 2 for what a person did.

    Without a group it is about trouble of our own, and ``title`` says what. ``revision`` increases each time that a
    card has to be sent again. ``told_status`` is the status of the group in the last message, ``told_digest`` a hash of
    what a card showed. ``undelivered_to`` are the addresses to which a mail that others took is still to be sent.
    ``external_id`` and ``external_channel`` are the receiver's names of the message.
    """

    workspace = ForeignKeyField(Workspace, index=False, null=True)
    alert_group = ForeignKeyField(AlertGroup, index=False, null=True, on_delete="CASCADE")
    happening_id = BigIntegerField(null=True)
    receiver = TextField()
    route = TextField()
    mode = TextField()
    reason = TextField()
    rank = SmallIntegerField()
    title = TextField(null=True)
    is_test = BooleanField(constraints=[SQL("DEFAULT false")])
    state = TextField(constraints=[SQL("DEFAULT 'pending'")])
    revision = BigIntegerField(constraints=[SQL("DEFAULT 1")])
    happened_at = DateTimeTZField()
    due_at = DateTimeTZField()
    tries = BigIntegerField(constraints=[SQL("DEFAULT 0")])
    lease_until = DateTimeTZField(null=True)
    external_channel = TextField(null=True)
    external_id = TextField(null=True)
    told_digest = TextField(null=True)
    told_status = TextField(null=True)
    created_at = DateTimeTZField(constraints=[SQL("DEFAULT now()")])
    sent_at = DateTimeTZField(null=True)
    covered_by = ForeignKeyField("self", null=True, on_delete="SET NULL", index=False, column_name="covered_by")
    remind_at = DateTimeTZField(null=True)
    reminders = SmallIntegerField(constraints=[SQL("DEFAULT 0")])
    urgency = SmallIntegerField(constraints=[SQL("DEFAULT 0")])
    undelivered_to = ArrayField(TextField, null=True, index=False)

    class Meta:
        constraints = [
            Check("mode IN ('card', 'event', 'digest', 'reply')", name="notification_mode_check"),
            Check(
                "state IN ('pending', 'sending', 'sent', 'gone', 'given_up', 'covered')",
                name="notification_state_check",
            ),
            Check("(state = 'sending') = (lease_until IS NOT NULL)", name="notification_lease_check"),
            Check("state <> 'sent' OR sent_at IS NOT NULL", name="notification_sent_check"),
            Check("mode <> 'card' OR alert_group_id IS NOT NULL", name="notification_card_check"),
        ]
        indexes = [
            SQL(
                "CREATE UNIQUE INDEX notification_card_key ON notification (receiver, alert_group_id)"
                " WHERE mode = 'card'"
            ),
            SQL(
                "CREATE INDEX notification_due ON notification (receiver, due_at) WHERE state IN ('pending', 'sending')"
            ),
            SQL(
                "CREATE INDEX notification_group ON notification (alert_group_id, id DESC)"
                " WHERE alert_group_id IS NOT NULL"
            ),
            SQL(
                "CREATE INDEX notification_priority ON notification"
                " (receiver, is_test DESC, (urgency = 2) DESC, rank DESC, due_at, id)"
                " WHERE state IN ('pending', 'sending')"
            ),
            SQL("CREATE INDEX notification_newest ON notification (workspace_id, (id * -1))"),
            SQL("CREATE INDEX notification_of_receiver ON notification (workspace_id, receiver, (id * -1))"),
            SQL("CREATE INDEX notification_of_state ON notification (workspace_id, state, (id * -1))"),
            SQL(
                "CREATE INDEX notification_of_receiver_and_state ON notification"
                " (workspace_id, receiver, state, (id * -1))"
            ),
            SQL("CREATE INDEX notification_sent ON notification (receiver, sent_at) WHERE sent_at IS NOT NULL"),
            SQL(
                "CREATE INDEX notification_sent_alone ON notification (receiver, sent_at)"
                " WHERE covered_by IS NULL AND mode <> 'digest'"
            ),
            SQL("CREATE INDEX notification_digest ON notification (receiver, sent_at) WHERE mode = 'digest'"),
            SQL("CREATE INDEX notification_given_up ON notification (id) WHERE state = 'given_up'"),
            SQL("CREATE INDEX notification_remind ON notification (remind_at) WHERE remind_at IS NOT NULL"),
            SQL("CREATE INDEX notification_covered_by ON notification (covered_by) WHERE covered_by IS NOT NULL"),
            SQL(
                "CREATE INDEX notification_external ON notification (external_channel, external_id)"
                " WHERE external_channel IS NOT NULL"
            ),
        ]


class ReceiverState(DatabaseModel):
    """What holds for one receiver of all processes: until when it is busy or has a pause, and whether it is broken.

    ``external_account`` and ``external_channel`` are where its last message went, as the receiver names them. ``key``
    tells its messages from those of another deployment.
    """

    receiver = TextField(primary_key=True)
    not_before = DateTimeTZField(constraints=[SQL("DEFAULT '-infinity'")])
    busy_until = DateTimeTZField(constraints=[SQL("DEFAULT '-infinity'")])
    broken_since = DateTimeTZField(null=True)
    broken_code = TextField(null=True)
    last_sent_at = DateTimeTZField(null=True)
    last_error_at = DateTimeTZField(null=True)
    last_error_code = TextField(null=True)
    external_account = TextField(null=True)
    external_channel = TextField(null=True)
    key = TextField(constraints=[SQL("DEFAULT md5(random()::text || clock_timestamp()::text)")])


class NotificationAttempt(Table):
    """One attempt to send a notification, with its outcome; ``detail`` is the beginning of the answer."""

    notification = ForeignKeyField(Notification, index=False, on_delete="CASCADE")
    at = DateTimeTZField(constraints=[SQL("DEFAULT now()")])
    outcome = TextField()
    code = TextField()
    http_status = BigIntegerField(null=True)
    took_ms = BigIntegerField()
    detail = TextField()

    class Meta:
        constraints = [
            Check(
                "outcome IN ('sent', 'retry', 'unknown', 'rate_limited', 'broken', 'refused')",
                name="notification_attempt_outcome_check",
            ),
        ]
        indexes = [SQL("CREATE INDEX notification_attempt_listing ON notification_attempt (notification_id, id)")]


TABLES = (Happening, Notification, ReceiverState, NotificationAttempt)
