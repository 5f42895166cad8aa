"""Settings, read from environment variables into one frozen dataclass.

A missing or invalid variable stops the process at start, with the variable's name. Each field declares its
variable, values, default and purpose: errors, ``.env.example`` and the table in the README are made of them, and a
test compares them. No secret has a default. Only the entry points read ``os.environ``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, Self

from signalcraft.domain.alerts import ENVIRONMENT_ALIASES, Vocabulary
from signalcraft.domain.deliveries import Secret
from signalcraft.domain.grouping import GroupingPolicy
from signalcraft.settings import values
from signalcraft.settings.values import Declaration, setting, settings_of_sources
from signalcraft.sources import SOURCES, Source

#: Makes a value for ENCRYPTION_KEY.
NEW_KEY_COMMAND = "openssl rand -base64 32 | tr +/ -_"
_MAKE_ONE = "To make one: `openssl rand -hex 32`."
#: Similarity from which a name is a misspelt one: LOG_LEVLE is, REDIS_TLS_URL, which Heroku sets, is not.
_CLOSE = 0.87


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Configuration of all processes. Durations carry their unit in their name."""

    database_url: str = setting(
        "DATABASE_URL",
        values.DATABASE_URL,
        "PostgreSQL URL.",
        default=None,
        secret=True,
        example="postgresql://localhost/signalcraft",
    )
    redis_url: str = setting(
        "REDIS_URL",
        values.REDIS_URL,
        "Redis URL: job queue, delivery keys, rate limits, metrics.",
        default=None,
        secret=True,
        example="redis://localhost:6379/0",
    )
    port: int = setting("PORT", values.integer(1, 65535), "Port that gunicorn listens on.", default="8000")
    web_concurrency: int = setting(
        "WEB_CONCURRENCY", values.integer(1, 64, "processes"), "Number of gunicorn workers.", default="1"
    )
    default_workspace: str = setting(
        "DEFAULT_WORKSPACE",
        values.SLUG_VALUE,
        "Workspace of a delivery whose path and headers name none.",
        default="default",
    )
    of_sources: Mapping[str, Any] = settings_of_sources()
    api_token: str = setting(
        "API_TOKEN",
        values.TEXT,
        f"Bearer token for the API of the default workspace; empty: only those of `token create`. {_MAKE_ONE}",
        secret=True,
    )
    encryption_keys: tuple[str, ...] = setting(
        "ENCRYPTION_KEY",
        values.FERNET_KEYS,
        "Fernet keys of the secrets in the database, comma-separated, newest first: for `secret add`, and for every "
        f"web process, which else refuses what those secrets sign. To make one: `{NEW_KEY_COMMAND}`.",
        secret=True,
    )
    grouping_window_minutes: int = setting(
        "GROUPING_WINDOW_MINUTES",
        values.integer(1, 1440, "minutes"),
        "Time without an alert after which the next alert opens a new group.",
        default="60",
    )
    default_environment: str = setting(
        "DEFAULT_ENVIRONMENT",
        values.SLUG_VALUE,
        "Environment of an alert that names none.",
        default="prod",
    )
    environment_aliases: Mapping[str, str] = setting(
        "ENVIRONMENT_ALIASES",
        values.ALIASES,
        "Aliases of environments, added to the built-in ones.",
        example="acceptance=staging,canary=prod",
    )
    severity_shift: Mapping[str, int] = setting(
        "SEVERITY_SHIFT",
        values.SHIFTS,
        "Steps by which the severity of an environment's alerts is raised or lowered.",
        example="dev=-1",
    )
    spike_count: int = setting(
        "SPIKE_COUNT",
        values.integer(0, 1_000_000, "alerts"),
        "Alerts in SPIKE_MINUTES that raise a group's severity by one step; 0 disables it.",
        default="100",
    )
    spike_minutes: int = setting("SPIKE_MINUTES", values.integer(1, 60, "minutes"), "Length of a spike.", default="5")
    auto_resolve_days: int = setting(
        "AUTO_RESOLVE_DAYS",
        values.integer(0, 3650, "days"),
        "Time without an alert after which a group is resolved; 0 disables it.",
        default="14",
    )
    retention_days: int = setting(
        "RETENTION_DAYS", values.integer(1, 3650, "days"), "Time to keep events.", default="90"
    )
    payload_retention_days: int = setting(
        "PAYLOAD_RETENTION_DAYS",
        values.integer(1, 3650, "days"),
        "Time to keep raw bodies, of events at most RETENTION_DAYS, and dead letters and unhandled deliveries.",
        default="30",
    )
    ingest_durability: str = setting(
        "INGEST_DURABILITY",
        values.one_of("redis", "fallback", "inbox"),
        "Where an acknowledged delivery waits. redis: in Redis alone; fallback: in PostgreSQL while Redis is "
        "unavailable; inbox: always in PostgreSQL.",
        default="fallback",
    )
    delivery_key_ttl: int = setting(
        "DELIVERY_KEY_TTL",
        values.integer(60, 30 * 86_400, "seconds"),
        "Time for which the web process recognises a redelivery.",
        default="3600",
    )
    max_body_bytes: int = setting(
        "MAX_BODY_BYTES",
        values.integer(1024, 256 * 1024 * 1024, "bytes"),
        "Largest request body.",
        default=str(5 * 1024 * 1024),
    )
    ratelimit_webhook: str = setting(
        "RATELIMIT_WEBHOOK",
        values.RATE,
        "Rate limit of verified deliveries per workspace.",
        default="6000/minute",
    )
    ratelimit_address: str = setting(
        "RATELIMIT_ADDRESS",
        values.RATE,
        "Rate limit per address of requests refused before or for their credentials, and of pages that need none.",
        default="60/minute",
    )
    ratelimit_api: str = setting(
        "RATELIMIT_API",
        values.RATE,
        "Rate limit of API calls per token.",
        default="600/minute",
    )
    trusted_proxies: int = setting(
        "TRUSTED_PROXIES",
        values.integer(0, 10, "proxies"),
        "Reverse proxies in front whose X-Forwarded-For is trusted (1 on Heroku).",
        default="0",
    )
    batch_size: int = setting(
        "BATCH_SIZE", values.integer(1, 5000, "jobs"), "Largest batch of a worker.", default="200"
    )
    rules: tuple[str, ...] = setting(
        "RULES",
        values.DOTTED_PATHS,
        "Dotted paths of `evaluate(group, decision) -> reasons`.",
        default="signalcraft.domain.notifications.default_rule",
    )
    notifier: str = setting(
        "NOTIFIER",
        values.DOTTED_PATH,
        "Dotted path of `queue_notification(reason, group)`, called for new, regressed and escalated groups.",
        default="signalcraft.tasks.queue_notification",
    )
    notify: str = setting(
        "NOTIFY",
        values.TOML,
        "Receivers and routes of notifications; empty: log lines.",
        example="notify.toml",
    )
    public_url: str = setting(
        "PUBLIC_URL",
        values.PUBLIC_URL,
        "URL at which people reach the pages of groups, for links in messages; empty: no links.",
        example="https://alerts.example.org",
    )
    slack_signing_secrets: tuple[str, ...] = setting(
        "SLACK_SIGNING_SECRET",
        values.TEXTS,
        "Signing Secrets of the Slack apps whose buttons are accepted, comma-separated; all are live. "
        "Empty: no button works.",
        secret=True,
    )
    slack_api_url: str = setting(
        "SLACK_API_URL",
        values.API_URL,
        "URL of Slack's Web API; another one for tests.",
        default="https://slack.com/api/",
    )
    ui: bool = setting("UI", values.ON_OFF, "Whether the pages are served: the list at /alerts.", default="on")
    log_level: str = setting(
        "LOG_LEVEL",
        values.one_of("DEBUG", "INFO", "WARNING", "ERROR"),
        "Lowest level to log.",
        default="INFO",
    )
    log_format: str = setting(
        "LOG_FORMAT", values.one_of("json", "console"), "JSON lines, or plain text for a terminal.", default="json"
    )
    slow_query_ms: int = setting(
        "SLOW_QUERY_MS", values.integer(0, 600_000, "milliseconds"), "Log queries slower than this.", default="250"
    )
    metrics_token: str = setting(
        "METRICS_TOKEN",
        values.TEXT,
        f"Bearer token for /metrics; empty disables authentication. {_MAKE_ONE}",
        secret=True,
    )
    dashboard_password: str = setting(
        "DASHBOARD_PASSWORD",
        values.TEXT,
        f"Password for rq-dashboard at /rq; empty disables it. {_MAKE_ONE}",
        secret=True,
    )
    canary_seconds: int = setting(
        "CANARY_SECONDS",
        values.integer(0, 86_400, "seconds"),
        "Time between canary deliveries; 0 disables them.",
        default="0",
    )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read every setting from ``environ``.

        Raises:
            InvalidSetting: with the name of the first missing or invalid variable, never with its value.
        """
        parsed: dict[str, Any] = {}
        for each in fields(cls):
            values = {declared.variable: declared.read(environ) for declared in each.metadata["declares"]}
            parsed[each.name] = values if "by_variable" in each.metadata else next(iter(values.values()))
        return cls(**parsed)

    @classmethod
    def declared(cls) -> list[Declaration]:
        """Return every variable that is read, in the order of the documents."""
        return [declared for each in fields(cls) for declared in each.metadata["declares"]]

    @classmethod
    def misspelt(cls, environ: Mapping[str, str]) -> dict[str, str]:
        """Return names like those of unset settings, with the latter."""
        ours = {declared.variable for declared in cls.declared()}
        unset = [name for name in ours if not environ.get(name, "").strip()]
        close = {
            name: get_close_matches(name.upper().removeprefix("SIGNALCRAFT_"), unset, n=1, cutoff=_CLOSE)
            for name in sorted(environ.keys() - ours)
        }
        return {name: matches[0] for name, matches in close.items() if matches}

    def environment_secrets(self) -> list[tuple[str, Secret]]:
        """Return the secrets of the default workspace in the environment, each with the name of its source."""
        return [
            (source.NAME, Secret(name=f"{kind.variable}-{number}", kind=kind.name, value=value.encode()))
            for source in SOURCES.values()
            for kind in source.KINDS
            if kind.variable
            for number, value in enumerate(self.of_sources[kind.variable], start=1)
        ]

    def renamed_headers(self, source: Source) -> Mapping[str, str]:
        """Return the headers that the sender of ``source`` may send by another name, with that name."""
        return {each.header: self.of_sources[each.variable] for each in source.SETTINGS if each.header}

    @property
    def grouping_policy(self) -> GroupingPolicy:
        """Return the grouping policy."""
        return GroupingPolicy(
            window=timedelta(minutes=self.grouping_window_minutes),
            spike_count=self.spike_count,
            spike_minutes=self.spike_minutes,
        )

    @property
    def vocabulary(self) -> Vocabulary:
        """Return the vocabulary that normalization uses."""
        return Vocabulary(
            default_environment=self.default_environment,
            environment_aliases={**ENVIRONMENT_ALIASES, **self.environment_aliases},
            severity_shift=self.severity_shift,
            settings={
                setting.variable: self.of_sources[setting.variable]
                for source in SOURCES.values()
                for setting in source.SETTINGS
            },
        )
