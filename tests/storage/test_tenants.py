"""Workspaces, secrets and tokens, and the credential cache of the web process."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from urllib.parse import urlsplit

import psycopg2
import pytest
from cryptography.fernet import Fernet
from structlog.testing import capture_logs

from signalcraft.domain.errors import DatabaseUnavailable, InvalidSetting
from signalcraft.ingest import credential_cache
from signalcraft.ingest.credential_cache import REFRESH_TIMEOUT_SECONDS, CredentialCache
from signalcraft.settings import Settings
from signalcraft.storage import database, tenants
from signalcraft.storage.models import ApiToken, WebhookSecret
from signalcraft.storage.tenants import TenancyError
from tests.support.stopwatch import stopwatch
from tests.support.waiting import wait_until
from tests.support.web_client import add_workspace, no_database

KEY, OTHER_KEY = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.fixture
def session(clean_database: str) -> Iterator[str]:
    with database.session():
        yield clean_database


@pytest.fixture
def workspace(session: str) -> str:
    assert session
    tenants.create_workspace("acme")
    return "acme"


@pytest.mark.usefixtures("session")
def test_workspaces_are_listed_by_slug() -> None:
    assert tenants.create_workspace("b-team") != tenants.create_workspace("acme")
    assert tenants.workspaces() == ["acme", "b-team"]


def test_a_slug_is_unique(workspace: str) -> None:
    with pytest.raises(TenancyError, match="already"):
        tenants.create_workspace(workspace)


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("slug", ["", "Acme", "-acme", "a b", "a" * 64, "acme\n"])
def test_an_invalid_slug_is_refused(slug: str) -> None:
    with pytest.raises(TenancyError, match="slug"):
        tenants.create_workspace(slug)


def test_a_secret_is_stored_encrypted_and_listed_without_its_value(workspace: str) -> None:
    name = tenants.add_secret(workspace, "integration", "s3cret-value", [KEY])
    (info,) = tenants.secrets(workspace)
    assert (info.name, info.kind, info.retired_at) == (name, "integration", None)
    assert "s3cret-value" not in repr(info)
    (row,) = WebhookSecret.select()
    assert "s3cret-value" not in row.value_encrypted
    assert tenants.cipher([KEY]).decrypt(row.value_encrypted.encode()) == b"s3cret-value"


def test_a_secret_without_a_name_gets_a_generated_one(workspace: str) -> None:
    names = [tenants.add_secret(workspace, "integration", str(n), [KEY]) for n in range(2)]
    assert names == ["integration-1", "integration-2"]
    assert tenants.add_secret(workspace, "legacy", "x", [KEY], "mine") == "mine"
    with pytest.raises(TenancyError, match="already"):
        tenants.add_secret(workspace, "legacy", "x", [KEY], "mine")


def test_a_secret_needs_a_workspace_a_kind_a_value_and_a_key(workspace: str) -> None:
    with pytest.raises(TenancyError, match="no workspace"):
        tenants.add_secret("nobody", "integration", "x", [KEY])
    with pytest.raises(TenancyError, match="kind"):
        tenants.add_secret(workspace, "password", "x", [KEY])
    with pytest.raises(TenancyError, match="empty"):
        tenants.add_secret(workspace, "integration", " ", [KEY])
    with pytest.raises(InvalidSetting, match="ENCRYPTION_KEY is not set"):
        tenants.add_secret(workspace, "integration", "x", [])
    with pytest.raises(InvalidSetting, match="ENCRYPTION_KEY must be"):
        tenants.add_secret(workspace, "integration", "x", ["not a key"])


def test_a_secret_is_retired_once(workspace: str) -> None:
    tenants.add_secret(workspace, "integration", "x", [KEY], "old")
    tenants.retire_secret(workspace, "old")
    assert tenants.secrets(workspace)[0].retired_at is not None
    with pytest.raises(TenancyError, match="no live secret"):
        tenants.retire_secret(workspace, "old")


def test_a_token_is_returned_once_and_stored_as_a_hash(workspace: str) -> None:
    token = tenants.create_token(workspace, can_write=False, name="grafana")
    (row,) = ApiToken.select()
    assert len(token) >= 43
    assert token not in (row.name, row.token_sha256)
    assert row.token_sha256 == tenants.token_sha256(token)
    with pytest.raises(TenancyError, match="already"):
        tenants.create_token(workspace, can_write=True, name="grafana")


def test_a_token_is_revoked_once(workspace: str) -> None:
    tenants.create_token(workspace, can_write=False, name="grafana")
    tenants.revoke_token(workspace, "grafana")
    with pytest.raises(TenancyError, match="no live token"):
        tenants.revoke_token(workspace, "grafana")


@pytest.fixture
def cache(environ: dict[str, str]) -> CredentialCache:
    add_workspace("default")
    add_workspace("acme")
    settings = Settings.from_environ({**environ, "ENCRYPTION_KEY": f"{KEY},{OTHER_KEY}", "SENTRY_CLIENT_SECRET": "a,b"})
    return CredentialCache(settings)


@pytest.fixture
def database_unavailable(database_url: str) -> Iterator[None]:
    with no_database(database_url):
        yield


def names(cache: CredentialCache, workspace: str) -> list[str]:
    return [secret.name for secret in cache.secrets_of(workspace, "sentry").secrets if secret.name != "decoy"]


def add_secret(name: str = "mine", *, key: str = KEY) -> None:
    with database.session():
        tenants.add_secret("acme", "integration", "value", [key], name)


def test_secrets_from_the_environment_belong_to_the_default_workspace_only(cache: CredentialCache) -> None:
    assert names(cache, "default") == ["SENTRY_CLIENT_SECRET-1", "SENTRY_CLIENT_SECRET-2"]
    assert names(cache, "acme") == []


def test_stored_secrets_are_read_with_any_of_the_keys(cache: CredentialCache) -> None:
    add_secret("new")
    add_secret("old", key=OTHER_KEY)
    assert names(cache, "acme") == ["new", "old"]


def test_a_stored_secret_is_decrypted_once_not_at_each_read(
    cache: CredentialCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def reading(encrypted: str, keys: Sequence[str]) -> bytes | None:
        read.append(encrypted)
        return tenants.decrypted(encrypted, keys)

    monkeypatch.setattr(credential_cache, "decrypted", reading)
    add_secret("one")
    for _ in range(3):
        cache.refresh()
        assert names(cache, "acme") == ["one"]
    add_secret("two")
    cache.refresh()
    assert (names(cache, "acme"), len(read)) == (["one", "two"], 2)


def test_a_secret_that_no_key_decrypts_is_skipped_and_breaks_nothing(cache: CredentialCache) -> None:
    add_secret("lost", key=Fernet.generate_key().decode())
    add_secret("mine")
    assert names(cache, "acme") == ["mine"]


def test_every_workspace_has_equally_many_secrets_to_try_even_an_unknown_one(cache: CredentialCache) -> None:
    kinds = [sorted(s.kind for s in cache.secrets_of(slug, "sentry").secrets) for slug in ("default", "acme", "nobody")]
    assert kinds[0] == kinds[1] == kinds[2] == ["integration", "integration", "legacy", "servicehook"]
    assert cache.secrets_of("nobody", "sentry").workspace_id == 0


def test_a_default_workspace_that_does_not_exist_yet_has_no_secrets(environ: dict[str, str]) -> None:
    cache = CredentialCache(Settings.from_environ(environ))
    assert cache.secrets_of("default", "sentry").workspace_id == 0
    assert names(cache, "default") == []
    assert cache.caller("test-api-token") is None


def test_a_read_that_fails_by_a_bug_is_logged_and_the_snapshot_stays(
    cache: CredentialCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    assert names(cache, "acme") == []
    monkeypatch.setattr(cache, "_read", fail)
    with capture_logs() as lines:
        cache.refresh()
    assert names(cache, "acme") == []
    (line,) = lines
    assert (line["event"], line["log_level"], line["error"]) == ("uncaught exception", "critical", "ZeroDivisionError")


def test_what_was_added_before_a_refusal_is_known_after_its_refresh_however_recent_the_last_one(
    cache: CredentialCache,
) -> None:
    for number in range(20):
        add_secret(f"secret-{number}")
        cache.refresh()
        assert len(names(cache, "acme")) == number + 1


class HeldRead:
    """Hold the first read of a cache after it has read, until it is let go."""

    def __init__(self, cache: CredentialCache, monkeypatch: pytest.MonkeyPatch) -> None:
        self.has_read, self.let_go = threading.Event(), threading.Event()
        self.reads = 0
        self._read = cache._read
        monkeypatch.setattr(cache, "_read", self.read)

    def read(self) -> None:
        self.reads += 1
        is_first = self.reads == 1
        self._read()
        if is_first:
            self.has_read.set()
            assert self.let_go.wait(5)


def test_a_refusal_does_not_take_the_read_under_way_for_its_own(
    cache: CredentialCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The idle process: the request's own background refresh had begun, and it was refused by what that had missed."""
    assert names(cache, "acme") == []
    held = HeldRead(cache, monkeypatch)
    cache._work()  # as the timer does
    assert held.has_read.wait(5)
    add_secret()
    threading.Timer(0.05, held.let_go.set).start()
    cache.refresh()
    assert names(cache, "acme") == ["mine"]


def test_a_read_that_hangs_costs_one_request_a_moment_and_the_next_nothing(
    cache: CredentialCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert names(cache, "default") != []
    held = HeldRead(cache, monkeypatch)
    monkeypatch.setattr(credential_cache, "REFRESH_TIMEOUT_SECONDS", REFRESH_TIMEOUT_SECONDS)
    try:
        with stopwatch() as first:
            cache.refresh()
        with stopwatch() as others:
            for _ in range(20):
                cache.refresh()
    finally:
        held.let_go.set()
    assert 0.15 < first.seconds < 0.5
    assert others.seconds < 0.1
    monkeypatch.setattr(credential_cache, "REFRESH_TIMEOUT_SECONDS", 10.0)
    wait_until(lambda: cache._overdue_read is not None and cache._overdue_read.done())
    add_secret()
    cache.refresh()
    assert names(cache, "acme") == ["mine"]


def test_a_crowd_of_refusals_shares_its_reads(cache: CredentialCache, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(cache, "acme") == []
    held = HeldRead(cache, monkeypatch)
    cache._work()
    assert held.has_read.wait(5)
    waiting: list[object] = []
    wait = cache._await

    def count(read: Future[None], timeout: float) -> None:
        waiting.append(read)
        wait(read, timeout)

    monkeypatch.setattr(cache, "_await", count)
    with ThreadPoolExecutor(16) as pool:
        refusals = [pool.submit(cache.refresh) for _ in range(16)]
        wait_until(lambda: len(waiting) == 16)
        held.let_go.set()
        for refusal in refusals:
            refusal.result(5)
    assert held.reads == 2, "the one under way, and the one for all"


def test_a_change_is_known_without_any_request_by_the_clock(
    cache: CredentialCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert credential_cache.REFRESH_INTERVAL_SECONDS <= 5, "a read may take as long again: ten seconds are promised"
    monkeypatch.setattr(credential_cache, "REFRESH_INTERVAL_SECONDS", 0.05)
    add_secret()
    with database.session():
        token = tenants.create_token("acme", can_write=True, name="oncall")
    stop = cache.start()
    try:
        wait_until(lambda: cache._snapshot is not None)
        assert names(cache, "acme") == ["mine"]
        with database.session():
            tenants.retire_secret("acme", "mine")
            tenants.revoke_token("acme", "oncall")
        wait_until(lambda: cache.caller(token) is None and names(cache, "acme") == [], seconds=5)
    finally:
        stop()


def test_after_a_restart_of_postgresql_the_first_refusal_is_not_by_old_credentials(
    cache: CredentialCache, clean_database: str
) -> None:
    """Each connection of the pool is dead then; a read by one of them would fail."""
    assert names(cache, "acme") == []
    add_secret()
    with ThreadPoolExecutor(4) as pool:
        barrier = threading.Barrier(4)
        for kept in [pool.submit(keep_connection, barrier) for _ in range(4)]:
            kept.result(5)
    kill = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = %s"
    with closing(psycopg2.connect(clean_database)) as other, other.cursor() as cursor:
        cursor.execute(kill, (urlsplit(clean_database).path.lstrip("/"),))
        assert len(cursor.fetchall()) >= 4
    cache.refresh()
    assert names(cache, "acme") == ["mine"]


def keep_connection(barrier: threading.Barrier) -> None:
    with database.session():
        barrier.wait(5)


def test_an_empty_cache_without_a_database_is_unavailable(
    environ: dict[str, str], request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("database_unavailable")
    cache = CredentialCache(Settings.from_environ(environ))
    with pytest.raises(DatabaseUnavailable):
        cache.secrets_of("default", "sentry")
    with pytest.raises(DatabaseUnavailable):
        cache.caller("test-api-token")


def test_cached_credentials_are_served_while_the_database_is_unavailable_and_it_is_logged_once(
    cache: CredentialCache, request: pytest.FixtureRequest
) -> None:
    add_secret()
    assert names(cache, "acme") == ["mine"]
    request.getfixturevalue("database_unavailable")
    with capture_logs() as lines:
        for _ in range(3):
            with stopwatch() as watch:
                assert names(cache, "acme") == ["mine"]
            assert watch.seconds < 0.1, "a caller that needs no newer credentials does not wait"
            cache.refresh()
    assert [line["event"] for line in lines] == ["serving stale credentials, database unavailable"]
    assert names(cache, "acme") == ["mine"]


def test_undecryptable_secrets_are_an_error_with_their_number_once(cache: CredentialCache) -> None:
    for name in ("lost", "gone"):
        add_secret(name, key=Fernet.generate_key().decode())
    with capture_logs() as lines:
        for _ in range(3):
            cache.refresh()
    (line,) = lines
    assert (line["log_level"], line["number"], line["names"]) == ("error", 2, ["acme/lost", "acme/gone"])
    assert cache.undecryptable() == 2


def test_the_last_use_of_a_stored_token_is_recorded(cache: CredentialCache) -> None:
    with database.session():
        token = tenants.create_token("acme", can_write=False, name="grafana")
    for text in (token, "test-api-token"):
        caller = cache.caller(text)
        assert caller is not None
        cache.record_call(caller)

    def last_used() -> datetime | None:
        with database.session():
            (info,) = tenants.tokens("acme")
            return info.last_used_at

    wait_until(lambda: last_used() is not None, seconds=5)


def test_tokens_name_their_workspace_and_scope(cache: CredentialCache) -> None:
    with database.session():
        reading = tenants.create_token("acme", can_write=False, name="grafana")
        writing = tenants.create_token("acme", can_write=True, name="oncall")
        revoked = tenants.create_token("acme", can_write=True, name="gone")
        tenants.revoke_token("acme", "gone")
    callers = [cache.caller(token) for token in (reading, writing)]
    assert [(c.workspace, c.token, c.can_write) for c in callers if c] == [
        ("acme", "grafana", False),
        ("acme", "oncall", True),
    ]
    for unknown in (revoked, "", "grafana", tenants.token_sha256(reading), "\udcff"):
        assert cache.caller(unknown) is None


def test_the_token_from_the_environment_is_for_the_default_workspace(cache: CredentialCache) -> None:
    caller = cache.caller("test-api-token")
    assert caller is not None
    assert (caller.workspace, caller.can_write) == ("default", True)


def test_no_secret_shows_in_a_repr(cache: CredentialCache) -> None:
    add_secret()
    cache.secrets_of("acme", "sentry")
    assert "value" not in repr([secret.name for secret in cache.secrets_of("acme", "sentry").secrets])
    assert "b'value'" not in repr(cache.secrets_of("acme", "sentry"))
    assert "b'value'" not in repr(cache._snapshot)
