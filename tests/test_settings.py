"""Settings: a missing or invalid variable stops the start with its name; secrets are not shown."""

from dataclasses import FrozenInstanceError

import pytest

from signalcraft.domain.errors import InvalidSetting
from signalcraft.settings import Settings

REQUIRED = {"DATABASE_URL": "postgresql://localhost/x", "REDIS_URL": "redis://localhost"}


def _read(**environ: str) -> Settings:
    return Settings.from_environ({**REQUIRED, **environ})


def test_two_variables_are_enough() -> None:
    settings = _read()
    assert (settings.port, settings.default_workspace, settings.default_environment) == (8000, "default", "prod")
    assert settings.of_sources["SENTRY_CLIENT_SECRET"] == ()
    assert settings.rules == ("signalcraft.domain.notifications.default_rule",)


def test_the_public_url_has_no_slash_at_its_end() -> None:
    assert _read(PUBLIC_URL="https://alerts.example.org/").public_url == "https://alerts.example.org"
    assert _read().public_url == ""


@pytest.mark.parametrize("url", ["http://127.0.0.1:8090/api", "http://localhost/api/", "https://slack.example.org/api"])
def test_slacks_api_is_at_slack_or_where_a_setting_says_with_a_slash_at_its_end(url: str) -> None:
    assert _read().slack_api_url == "https://slack.com/api/"
    assert _read(SLACK_API_URL=url).slack_api_url == url.rstrip("/") + "/"


@pytest.mark.parametrize("variable", REQUIRED)
def test_a_missing_variable_is_named(variable: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^{variable} is not set"):
        Settings.from_environ({name: value for name, value in REQUIRED.items() if name != variable})


@pytest.mark.parametrize("blank", ["", "   "])
def test_a_blank_variable_is_an_unset_one(blank: str) -> None:
    assert _read(PORT=blank).port == 8000
    with pytest.raises(InvalidSetting, match=r"^DATABASE_URL"):
        _read(DATABASE_URL=blank)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "mysql://localhost/hunter2"),
        ("DATABASE_URL", "postgresql://u:hunter2%zz@localhost/x"),
        ("DATABASE_URL", "postgresql://[hunter2"),
        ("DATABASE_URL", "postgresql://localhost:hunter2/x"),
        ("DATABASE_URL", "postgresql://localhost/x?hunter2=1"),
        ("REDIS_URL", "http://hunter2"),
        ("REDIS_URL", "redis://localhost:hunter2"),
        ("REDIS_URL", "redis://[hunter2"),
        ("REDIS_URL", "redis://localhost?db=hunter2"),
        ("PUBLIC_URL", "hunter2"),
        ("PUBLIC_URL", "ftp://hunter2"),
        ("PUBLIC_URL", "https://[hunter2"),
        ("PUBLIC_URL", "https://me:hunter2@alerts.example.org"),
        ("PUBLIC_URL", "https://alerts.example.org/?hunter2"),
        ("SLACK_API_URL", "http://hunter2.example.org/api/"),
        ("SLACK_API_URL", "http://localhost.hunter2/api/"),
        ("SLACK_API_URL", "https://me:hunter2@slack.com/api/"),
        ("PORT", "0"),
        ("PORT", "70000"),
        ("PORT", "8o8o"),
        ("PORT", "-1"),
        ("PORT", "9" * 5000),
        ("WEB_CONCURRENCY", "0"),
        ("GROUPING_WINDOW_MINUTES", "1441"),
        ("DEFAULT_WORKSPACE", "No Spaces"),
        ("DEFAULT_ENVIRONMENT", "-prod"),
        ("RATELIMIT_WEBHOOK", "lots"),
        ("RATELIMIT_ADDRESS", "60 per minute"),
        ("RATELIMIT_API", "0/minute"),
        ("INGEST_DURABILITY", "maybe"),
        ("ENCRYPTION_KEY", "hunter2"),
        ("LOG_LEVEL", "debug"),
        ("LOG_FORMAT", "xml"),
        ("ENVIRONMENT_ALIASES", "acceptance"),
        ("ENVIRONMENT_ALIASES", "=staging"),
        ("SEVERITY_SHIFT", "dev=-9"),
        ("SEVERITY_SHIFT", "dev=milder"),
        ("NOTIFIER", "os;system"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable_without_quoting_it(variable: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^{variable} must ") as refusal:
        _read(**{variable: value})
    assert "hunter2" not in str(refusal.value)


def test_an_error_says_the_values_their_unit_and_an_example() -> None:
    with pytest.raises(InvalidSetting, match=r"^PORT must be a whole number from 1 to 65535, for example 8000\.$"):
        _read(PORT="0")
    with pytest.raises(InvalidSetting, match=r"a whole number of minutes from 1 to 1440, for example 60\.$"):
        _read(GROUPING_WINDOW_MINUTES="0")
    with pytest.raises(InvalidSetting, match=r"^REDIS_URL is not set\. .* for example redis://localhost:6379/0\.$"):
        Settings.from_environ({"DATABASE_URL": REQUIRED["DATABASE_URL"]})
    with pytest.raises(InvalidSetting, match=r"in URL-safe base64, comma-separated\.$"):
        _read(ENCRYPTION_KEY="short")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("LOG_LEVLE", "LOG_LEVEL"),
        ("RATE_LIMIT_API", "RATELIMIT_API"),
        ("SENTRY_CLIENT_SECRETS", "SENTRY_CLIENT_SECRET"),
        ("encryption_key", "ENCRYPTION_KEY"),
        ("SIGNALCRAFT_PORT", "PORT"),
    ],
)
def test_a_misspelt_setting_is_recognised_unless_the_right_name_is_set_too(name: str, meant: str) -> None:
    assert Settings.misspelt({name: "x"}) == {name: meant}
    assert Settings.misspelt({name: "x", meant: " "}) == {name: meant}
    assert Settings.misspelt({name: "x", meant: "y"}) == {}


def test_variables_of_platforms_and_shells_are_no_misspelt_settings() -> None:
    names = (
        "REDIS_TLS_URL",
        "HEROKU_POSTGRESQL_ONYX_URL",
        "SENTRY_DSN",
        "LOGNAME",
        "TEST_DATABASE_URL",
        "SHELL",
        "PATH",
    )
    assert Settings.misspelt(dict.fromkeys(names, "x")) == {}


def test_whitespace_around_lists_and_pairs_is_ignored() -> None:
    settings = _read(
        SENTRY_CLIENT_SECRET=" old , new,",
        ENVIRONMENT_ALIASES="Acceptance = staging, canary=Prod",
        SEVERITY_SHIFT="dev=-1,prod=+1",
    )
    assert settings.of_sources["SENTRY_CLIENT_SECRET"] == ("old", "new")
    assert settings.environment_aliases == {"acceptance": "staging", "canary": "prod"}
    assert settings.severity_shift == {"dev": -1, "prod": 1}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///x?host=%2Ftmp%2Fa",
        "postgresql://u:p%40%2F@h1,h2:5432,5433/x?target_session_attrs=read-write",
        "postgresql://u:p@[::1]:5432/x?sslmode=require",
    ],
)
def test_every_url_that_libpq_reads_is_accepted_unchanged(url: str) -> None:
    assert _read(DATABASE_URL=url).database_url == url


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_both_spellings_of_postgresql_are_accepted(scheme: str) -> None:
    assert _read(DATABASE_URL=f"{scheme}://localhost/x").database_url.startswith(scheme)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix"])
def test_redis_may_use_tls_or_a_unix_socket(scheme: str) -> None:
    assert _read(REDIS_URL=f"{scheme}://x").redis_url.startswith(scheme)


def test_secrets_are_not_in_the_repr_and_have_no_default() -> None:
    settings = _read(
        DATABASE_URL="postgresql://u:hunter2@localhost/x",
        REDIS_URL="redis://:hunter2@localhost",
        SENTRY_CLIENT_SECRET="hunter2",
        API_TOKEN="hunter2",
        ENCRYPTION_KEY="hunter2hunter2hunter2hunter2hunter2hunter2h=",
        METRICS_TOKEN="hunter2",
        SLACK_SIGNING_SECRET="hunter2",
        DASHBOARD_PASSWORD="hunter2",
    )
    assert "hunter2" not in repr(settings)
    assert all(not setting.default for setting in Settings.declared() if setting.is_secret)


def test_settings_are_immutable() -> None:
    settings = _read()
    with pytest.raises(FrozenInstanceError):
        settings.port = 1  # type: ignore[misc]  # that is the point


def test_every_default_and_example_is_valid() -> None:
    for setting in Settings.declared():
        if setting.default is not None:
            setting.parse(setting.default)
        if setting.example:
            setting.parse(setting.example)


def test_herokus_scheme_is_replaced_by_the_one_that_peewee_reads() -> None:
    assert _read(DATABASE_URL="postgres://u:p@h:5432/d?sslmode=require").database_url == (
        "postgresql://u:p@h:5432/d?sslmode=require"
    )
