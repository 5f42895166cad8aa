"""Create the tables of notifications: what happened to groups, what receivers were told, and how each attempt went."""

UP = """
CREATE TABLE happening (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id bigint NOT NULL REFERENCES workspace (id),
    alert_group_id bigint NOT NULL REFERENCES alert_group (id) ON DELETE CASCADE,
    event_id bigint,
    kind text NOT NULL,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    by text NOT NULL,
    routed_at timestamptz,
    CONSTRAINT happening_kind_check CHECK (kind IN ('opened', 'recurred', 'regressed', 'escalated', 'acked', 'snoozed',
        'snooze_ended', 'resolved', 'reopened', 'assigned')),
    CONSTRAINT happening_actor_check CHECK (actor IN ('token', 'source', 'alert', 'clock'))
);
CREATE INDEX happening_unrouted ON happening (id) WHERE routed_at IS NULL;
CREATE INDEX happening_listing ON happening (alert_group_id, id);

CREATE TABLE notification (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id bigint REFERENCES workspace (id),
    alert_group_id bigint REFERENCES alert_group (id) ON DELETE CASCADE,
    happening_id bigint,
    receiver text NOT NULL,
    route text NOT NULL,
    mode text NOT NULL,
    reason text NOT NULL,
    rank smallint NOT NULL,
    title text,
    is_test boolean NOT NULL DEFAULT false,
    state text NOT NULL DEFAULT 'pending',
    revision bigint NOT NULL DEFAULT 1,
    happened_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    tries bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    external_channel text,
    external_id text,
    told_digest text,
    told_status text,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    covered_by bigint REFERENCES notification (id) ON DELETE SET NULL,
    remind_at timestamptz,
    reminders smallint NOT NULL DEFAULT 0,
    CONSTRAINT notification_mode_check CHECK (mode IN ('card', 'event', 'digest')),
    CONSTRAINT notification_state_check
        CHECK (state IN ('pending', 'sending', 'sent', 'gone', 'given_up', 'covered')),
    CONSTRAINT notification_lease_check CHECK ((state = 'sending') = (lease_until IS NOT NULL)),
    CONSTRAINT notification_sent_check CHECK (state <> 'sent' OR sent_at IS NOT NULL),
    CONSTRAINT notification_card_check CHECK (mode <> 'card' OR alert_group_id IS NOT NULL)
);
CREATE UNIQUE INDEX notification_card_key ON notification (receiver, alert_group_id) WHERE mode = 'card';
CREATE INDEX notification_due ON notification (receiver, due_at) WHERE state IN ('pending', 'sending');
CREATE INDEX notification_group ON notification (alert_group_id, id DESC) WHERE alert_group_id IS NOT NULL;
CREATE INDEX notification_listing ON notification (workspace_id, id DESC);
CREATE INDEX notification_sent ON notification (receiver, sent_at) WHERE sent_at IS NOT NULL;
CREATE INDEX notification_given_up ON notification (id) WHERE state = 'given_up';
CREATE INDEX notification_remind ON notification (remind_at) WHERE remind_at IS NOT NULL;
CREATE INDEX notification_covered_by ON notification (covered_by) WHERE covered_by IS NOT NULL;

CREATE TABLE receiver_state (
    receiver text PRIMARY KEY,
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    busy_until timestamptz NOT NULL DEFAULT '-infinity',
    broken_since timestamptz,
    broken_code text,
    last_sent_at timestamptz,
    last_error_at timestamptz,
    last_error_code text
);

CREATE TABLE notification_attempt (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    notification_id bigint NOT NULL REFERENCES notification (id) ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT now(),
    outcome text NOT NULL,
    code text NOT NULL,
    http_status bigint,
    took_ms bigint NOT NULL,
    detail text NOT NULL,
    CONSTRAINT notification_attempt_outcome_check
        CHECK (outcome IN ('sent', 'retry', 'unknown', 'rate_limited', 'broken', 'refused'))
);
CREATE INDEX notification_attempt_listing ON notification_attempt (notification_id, id);
"""
DOWN = "DROP TABLE notification_attempt; DROP TABLE receiver_state; DROP TABLE notification; DROP TABLE happening;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
