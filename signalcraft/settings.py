"""Settings, read from environment variables into one frozen dataclass.

A missing or invalid variable stops the process at start, with the variable's name. Each field declares its
variable, values, default and purpose: errors, ``.env.example`` and the table in the README are made of them, and a
test compares them. No secret has a default. Only the entry points read ``os.environ``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Self

from cryptography.fernet import Fernet
from psycopg2 import ProgrammingError
from psycopg2.extensions import parse_dsn
from redis.connection import parse_url

from signalcraft.domain.alerts import ENVIRONMENT_ALIASES, Vocabulary
from signalcraft.domain.errors import InvalidSetting
from signalcraft.domain.grouping import GroupingPolicy

#: Makes a value for ENCRYPTION_KEY.
NEW_KEY_COMMAND = 'python -c "from cryptography.fernet import Fernet as F; print(F.generate_key().decode())"'
_MAKE_ONE = "To make one: `openssl rand -hex 32`."
_ESCAPED = ", special characters of a password written as %XX"
#: Similarity from which a name is a misspelt one: LOG_LEVLE is, REDIS_TLS_URL, which Heroku sets, is not.
_CLOSE = 0.87
SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_PUBLIC_URL = re.compile(r"(https?://[\w.:-]+(/[^\s?#]*)?)?")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


@dataclass(frozen=True, slots=True)
class _Values:
    """What a setting accepts: in words that follow "must be", and its parser, which raises ``ValueError``."""

    words: str
    parse: Callable[[str], Any]


def _integer(minimum: int, maximum: int, unit: str = "") -> _Values:
    def parse(text: str) -> int:
        number = int(text) if re.fullmatch(r"\d{1,18}", text) else -1
        if not minimum <= number <= maximum:
            raise ValueError
        return number

    kind = f"a whole number of {unit}" if unit else "a whole number"
    return _Values(f"{kind} from {minimum} to {maximum}", parse)


def _one_of(*choices: str) -> _Values:
    return _matching(re.compile("|".join(choices)), f"one of {', '.join(choices)}")


def _matching(pattern: re.Pattern[str], words: str) -> _Values:
    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError
        return text

    return _Values(words, parse)


def _database_url(text: str) -> str:
    """Return the URL with the scheme ``postgresql://``, checked by libpq.

    Heroku writes ``postgres://``: libpq reads it, but Peewee takes it for the name of a database. libpq checks the URL
    here because its error message at connect time quotes the password.
    """
    scheme, separator, rest = text.partition("://")
    if scheme not in ("postgres", "postgresql") or not separator:
        raise ValueError
    url = f"postgresql://{rest}"
    try:
        ports = parse_dsn(url).get("port", "")
    except ProgrammingError:
        raise ValueError from None
    if not re.fullmatch(r"[\d,]*", ports):
        raise ValueError
    return url


def _redis_url(text: str) -> str:
    if not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError
    parse_url(text)  # type: ignore[no-untyped-call] # redis-py's
    return text


def _public_url(text: str) -> str:
    if not _PUBLIC_URL.fullmatch(text):
        raise ValueError
    return text.rstrip("/")


def _list(text: str) -> tuple[str, ...]:
    return tuple(part for part in (item.strip() for item in text.split(",")) if part)


def _fernet_keys(text: str) -> tuple[str, ...]:
    keys = _list(text)
    for key in keys:
        Fernet(key)
    return keys


def _pairs(text: str) -> Mapping[str, str]:
    pairs = [item.partition("=") for item in _list(text)]
    if any(not (key.strip() and equals and value.strip()) for key, equals, value in pairs):
        raise ValueError
    return MappingProxyType({key.strip().lower(): value.strip().lower() for key, _, value in pairs})


def _shifts(text: str) -> Mapping[str, int]:
    pairs = _pairs(text)
    if any(not re.fullmatch(r"[+-]?[1-4]", value) for value in pairs.values()):
        raise ValueError
    return MappingProxyType({key: int(value) for key, value in pairs.items()})


_SLUG = _matching(SLUG, "a slug: 1 to 63 of a-z, 0-9, _ and -, the first a letter or digit")
_RATE = _matching(
    re.compile(r"[1-9]\d*/(second|minute|hour|day)"), "a number from 1 and /second, /minute, /hour or /day"
)
_TEXT = _Values("text", str)


def _setting(
    variable: str,
    values: _Values,
    purpose: str,
    *,
    default: str | None = "",
    secret: bool = False,
    example: str = "",
) -> Any:  # noqa: ANN401 - the field's annotation says what it is
    """Declare a field read from ``variable``.

    ``default`` is the text to parse when the variable is unset; None makes the variable required.
    """
    return field(
        repr=not secret,
        metadata={
            "variable": variable,
            "values": values.words,
            "parse": values.parse,
            "purpose": purpose,
            "default": default,
            "example": example,
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Configuration of all processes. Durations carry their unit in their name."""

    database_url: str = _setting(
        "DATABASE_URL",
        _Values(f"a URL that begins with postgresql:// or postgres:// and that libpq reads{_ESCAPED}", _database_url),
        "PostgreSQL URL.",
        default=None,
        secret=True,
        example="postgresql://localhost/signalcraft",
    )
    redis_url: str = _setting(
        "REDIS_URL",
        _Values(f"a URL that begins with redis://, rediss:// or unix:// and that redis-py reads{_ESCAPED}", _redis_url),
        "Redis URL: job queue, delivery keys, rate limits, metrics.",
        default=None,
        secret=True,
        example="redis://localhost:6379/0",
    )
    port: int = _setting("PORT", _integer(1, 65535), "Port that gunicorn listens on.", default="8000")
    web_concurrency: int = _setting(
        "WEB_CONCURRENCY", _integer(1, 64, "processes"), "Number of gunicorn workers.", default="1"
    )
    default_workspace: str = _setting(
        "DEFAULT_WORKSPACE",
        _SLUG,
        "Workspace of a delivery whose path and headers name none.",
        default="default",
    )
    sentry_client_secrets: tuple[str, ...] = _setting(
        "SENTRY_CLIENT_SECRET",
        _Values("texts, comma-separated", _list),
        "Client Secrets of the Sentry integrations of the default workspace, comma-separated; all are live.",
        secret=True,
    )
    api_token: str = _setting(
        "API_TOKEN",
        _TEXT,
        f"Bearer token for the API of the default workspace; empty: only those of `token create`. {_MAKE_ONE}",
        secret=True,
    )
    encryption_keys: tuple[str, ...] = _setting(
        "ENCRYPTION_KEY",
        _Values("Fernet keys, each 32 bytes in URL-safe base64, comma-separated", _fernet_keys),
        "Fernet keys of the secrets in the database, comma-separated, newest first: for `secret add`, and for every "
        f"web process, which else refuses what those secrets sign. To make one: `{NEW_KEY_COMMAND}`.",
        secret=True,
    )
    grouping_window_minutes: int = _setting(
        "GROUPING_WINDOW_MINUTES",
        _integer(1, 1440, "minutes"),
        "Time without an alert after which the next alert opens a new group.",
        default="60",
    )
    default_environment: str = _setting(
        "DEFAULT_ENVIRONMENT",
        _SLUG,
        "Environment of an alert that names none.",
        default="prod",
    )
    environment_aliases: Mapping[str, str] = _setting(
        "ENVIRONMENT_ALIASES",
        _Values("pairs alias=environment, comma-separated", _pairs),
        "Aliases of environments, added to the built-in ones.",
        example="acceptance=staging,canary=prod",
    )
    severity_shift: Mapping[str, int] = _setting(
        "SEVERITY_SHIFT",
        _Values("pairs environment=steps, from -4 to +4, comma-separated", _shifts),
        "Steps by which the severity of an environment's alerts is raised or lowered.",
        example="dev=-1",
    )
    spike_count: int = _setting(
        "SPIKE_COUNT",
        _integer(0, 1_000_000, "alerts"),
        "Alerts in SPIKE_MINUTES that raise a group's severity by one step; 0 disables it.",
        default="100",
    )
    spike_minutes: int = _setting("SPIKE_MINUTES", _integer(1, 60, "minutes"), "Length of a spike.", default="5")
    auto_resolve_days: int = _setting(
        "AUTO_RESOLVE_DAYS",
        _integer(0, 3650, "days"),
        "Time without an alert after which a group is resolved; 0 disables it.",
        default="14",
    )
    retention_days: int = _setting("RETENTION_DAYS", _integer(1, 3650, "days"), "Time to keep events.", default="90")
    payload_retention_days: int = _setting(
        "PAYLOAD_RETENTION_DAYS",
        _integer(1, 3650, "days"),
        "Time to keep raw bodies, of events at most RETENTION_DAYS, and dead letters and unhandled deliveries.",
        default="30",
    )
    ingest_durability: str = _setting(
        "INGEST_DURABILITY",
        _one_of("redis", "fallback", "inbox"),
        "Where an acknowledged delivery waits. redis: in Redis alone; fallback: in PostgreSQL while Redis is "
        "unavailable; inbox: always in PostgreSQL.",
        default="fallback",
    )
    delivery_key_ttl: int = _setting(
        "DELIVERY_KEY_TTL",
        _integer(60, 30 * 86_400, "seconds"),
        "Time for which the web process recognises a redelivery.",
        default="3600",
    )
    max_body_bytes: int = _setting(
        "MAX_BODY_BYTES",
        _integer(1024, 256 * 1024 * 1024, "bytes"),
        "Largest request body.",
        default=str(5 * 1024 * 1024),
    )
    ratelimit_webhook: str = _setting(
        "RATELIMIT_WEBHOOK",
        _RATE,
        "Rate limit of verified deliveries per workspace.",
        default="6000/minute",
    )
    ratelimit_address: str = _setting(
        "RATELIMIT_ADDRESS",
        _RATE,
        "Rate limit per address of requests refused before or for their credentials, and of pages that need none.",
        default="60/minute",
    )
    ratelimit_api: str = _setting(
        "RATELIMIT_API",
        _RATE,
        "Rate limit of API calls per token.",
        default="600/minute",
    )
    trusted_proxies: int = _setting(
        "TRUSTED_PROXIES",
        _integer(0, 10, "proxies"),
        "Reverse proxies in front whose X-Forwarded-For is trusted (1 on Heroku).",
        default="0",
    )
    batch_size: int = _setting("BATCH_SIZE", _integer(1, 5000, "jobs"), "Largest batch of a worker.", default="200")
    rules: tuple[str, ...] = _setting(
        "RULES",
        _Values("dotted paths, comma-separated", _list),
        "Dotted paths of `evaluate(group, decision) -> reasons`.",
        default="signalcraft.domain.notifications.default_rule",
    )
    notifier: str = _setting(
        "NOTIFIER",
        _matching(_DOTTED, "a dotted path"),
        "Dotted path of `queue_notification(reason, group)`, called for new, regressed and escalated groups.",
        default="signalcraft.tasks.queue_notification",
    )
    notify: str = _setting(
        "NOTIFY",
        _Values("the path of a TOML file, or TOML", str),
        "Receivers and routes of notifications; empty: log lines.",
        example="notify.toml",
    )
    public_url: str = _setting(
        "PUBLIC_URL",
        _Values("a URL that begins with https:// or http://, without a query", _public_url),
        "URL at which people reach the pages of groups, for links in messages; empty: no links.",
        example="https://alerts.example.org",
    )
    log_level: str = _setting(
        "LOG_LEVEL",
        _one_of("DEBUG", "INFO", "WARNING", "ERROR"),
        "Lowest level to log.",
        default="INFO",
    )
    log_format: str = _setting(
        "LOG_FORMAT", _one_of("json", "console"), "JSON lines, or plain text for a terminal.", default="json"
    )
    slow_query_ms: int = _setting(
        "SLOW_QUERY_MS", _integer(0, 600_000, "milliseconds"), "Log queries slower than this.", default="250"
    )
    metrics_token: str = _setting(
        "METRICS_TOKEN",
        _TEXT,
        f"Bearer token for /metrics; empty disables authentication. {_MAKE_ONE}",
        secret=True,
    )
    dashboard_password: str = _setting(
        "DASHBOARD_PASSWORD",
        _TEXT,
        f"Password for rq-dashboard at /rq; empty disables it. {_MAKE_ONE}",
        secret=True,
    )
    canary_seconds: int = _setting(
        "CANARY_SECONDS",
        _integer(0, 86_400, "seconds"),
        "Time between canary deliveries; 0 disables them.",
        default="0",
    )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read every setting from ``environ``.

        Raises:
            InvalidSetting: with the name of the first missing or invalid variable, never with its value.
        """
        values: dict[str, Any] = {}
        for setting in fields(cls):
            variable, default = setting.metadata["variable"], setting.metadata["default"]
            example = default or setting.metadata["example"]
            accepted = setting.metadata["values"] + (f", for example {example}" if example else "")
            text = environ.get(variable, "").strip() or default
            if text is None:
                purpose = setting.metadata["purpose"]
                raise InvalidSetting(f"{variable} is not set. {purpose} It must be {accepted}.")
            try:
                values[setting.name] = setting.metadata["parse"](text)
            except ValueError:
                raise InvalidSetting(f"{variable} must be {accepted}.") from None
        return cls(**values)

    @classmethod
    def misspelt(cls, environ: Mapping[str, str]) -> dict[str, str]:
        """Return names like those of unset settings, with the latter."""
        ours = {setting.metadata["variable"] for setting in fields(cls)}
        unset = [name for name in ours if not environ.get(name, "").strip()]
        close = {
            name: get_close_matches(name.upper().removeprefix("SIGNALCRAFT_"), unset, n=1, cutoff=_CLOSE)
            for name in sorted(environ.keys() - ours)
        }
        return {name: matches[0] for name, matches in close.items() if matches}

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
        )
