"""Create the first tables: tenants, groups, events, the inbox and the dead letters."""

UP = """
CREATE TABLE workspace (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workspace_slug_key UNIQUE (slug),
    CONSTRAINT workspace_slug_check CHECK (slug ~ '^[a-z0-9][a-z0-9_-]{0,62}$')
);

CREATE TABLE webhook_secret (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id bigint NOT NULL REFERENCES workspace (id),
    name text NOT NULL,
    kind text NOT NULL,
    value_encrypted text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    retired_at timestamptz,
    CONSTRAINT webhook_secret_name_key UNIQUE (workspace_id, name),
    CONSTRAINT webhook_secret_kind_check CHECK (kind IN ('integration', 'servicehook', 'legacy'))
);

CREATE TABLE api_token (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id bigint NOT NULL REFERENCES workspace (id),
    name text NOT NULL,
    token_sha256 text NOT NULL,
    can_write boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at timestamptz,
    CONSTRAINT api_token_name_key UNIQUE (workspace_id, name),
    CONSTRAINT api_token_token_sha256_key UNIQUE (token_sha256)
);

CREATE TABLE alert_group (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id bigint NOT NULL REFERENCES workspace (id),
    group_key text NOT NULL,
    source text NOT NULL,
    project text NOT NULL,
    environment text NOT NULL,
    fingerprint text NOT NULL,
    issue_id text,
    title text NOT NULL,
    link text,
    severity text NOT NULL,
    alert_severity text NOT NULL,
    spiked boolean NOT NULL DEFAULT false,
    status text NOT NULL DEFAULT 'open',
    is_current boolean NOT NULL DEFAULT true,
    count bigint NOT NULL,
    source_count bigint,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    latest_event_id text COLLATE "C" NOT NULL,
    snoozed_until timestamptz,
    resolved_at timestamptz,
    source_status_at timestamptz,
    began_after timestamptz,
    previous_group_id bigint REFERENCES alert_group (id) ON DELETE SET NULL,
    assignee_user_id text,
    runbook_url text,
    CONSTRAINT alert_group_severity_check
        CHECK (severity IN ('info', 'low', 'med', 'high', 'critical')),
    CONSTRAINT alert_group_alert_severity_check
        CHECK (alert_severity IN ('info', 'low', 'med', 'high', 'critical')),
    CONSTRAINT alert_group_status_check
        CHECK (status IN ('open', 'ack', 'resolved', 'snoozed')),
    CONSTRAINT alert_group_current_check CHECK (NOT (is_current AND status = 'resolved')),
    CONSTRAINT alert_group_resolved_check CHECK ((status = 'resolved') = (resolved_at IS NOT NULL)),
    CONSTRAINT alert_group_snoozed_check CHECK (snoozed_until IS NULL OR status = 'snoozed'),
    CONSTRAINT alert_group_seen_check CHECK (first_seen_at <= last_seen_at),
    CONSTRAINT alert_group_count_check CHECK (count > 0)
);
CREATE UNIQUE INDEX alert_group_current_key ON alert_group (workspace_id, group_key) WHERE is_current;
CREATE INDEX alert_group_history ON alert_group (workspace_id, group_key, first_seen_at) WHERE NOT is_current;
CREATE INDEX alert_group_fingerprint ON alert_group (workspace_id, fingerprint);
CREATE INDEX alert_group_previous ON alert_group (previous_group_id) WHERE previous_group_id IS NOT NULL;
CREATE INDEX alert_group_listing ON alert_group (workspace_id, last_seen_at DESC, id DESC);

CREATE TABLE alert_event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id bigint NOT NULL REFERENCES workspace (id),
    alert_group_id bigint NOT NULL REFERENCES alert_group (id) DEFERRABLE INITIALLY DEFERRED,
    source text NOT NULL,
    source_event_id text COLLATE "C" NOT NULL,
    delivery_id text NOT NULL,
    project text NOT NULL,
    environment text NOT NULL,
    severity text NOT NULL,
    fingerprint text NOT NULL,
    issue_id text,
    title text NOT NULL,
    message text NOT NULL,
    tags_json jsonb NOT NULL,
    triggered_rules jsonb NOT NULL,
    link text,
    occurred_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    decision text NOT NULL,
    payload_json text,
    CONSTRAINT alert_event_identity_key UNIQUE (workspace_id, source, source_event_id),
    CONSTRAINT alert_event_severity_check
        CHECK (severity IN ('info', 'low', 'med', 'high', 'critical')),
    CONSTRAINT alert_event_decision_check
        CHECK (decision IN ('new', 'joined', 'window_expired', 'after_resolved', 'snooze_ended'))
);
CREATE INDEX alert_event_group ON alert_event (alert_group_id, received_at DESC, id DESC);

CREATE TABLE inbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id bigint NOT NULL REFERENCES workspace (id),
    delivery_id text NOT NULL,
    delivery_key text NOT NULL,
    source text NOT NULL,
    resource text NOT NULL,
    headers_json jsonb NOT NULL,
    body bytea NOT NULL,
    received_at timestamptz NOT NULL,
    CONSTRAINT inbox_delivery_key_key UNIQUE (workspace_id, source, delivery_key)
);

CREATE TABLE failed_delivery (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id bigint NOT NULL,
    delivery_id text NOT NULL,
    delivery_key text NOT NULL,
    source text NOT NULL,
    resource text NOT NULL,
    headers_json jsonb NOT NULL,
    body bytea NOT NULL,
    received_at timestamptz NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT now(),
    stage text NOT NULL,
    code text NOT NULL,
    reason text NOT NULL,
    replayed_at timestamptz,
    CONSTRAINT failed_delivery_delivery_id_key UNIQUE (delivery_id)
);
CREATE INDEX failed_delivery_listing ON failed_delivery (workspace_id, failed_at DESC, id DESC);
"""

DOWN = "DROP TABLE failed_delivery, inbox, alert_event, alert_group, api_token, webhook_secret, workspace;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
