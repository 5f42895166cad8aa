"""Workspaces, secrets and tokens, and how the web process knows them."""

import time
from collections.abc import Iterator

import pytest
from cryptography.fernet import Fernet

from signalcraft.domain.errors import DatabaseUnavailable, InvalidSetting
from signalcraft.ingest.credential_cache import CredentialCache
from signalcraft.settings import Settings
from signalcraft.storage import database, tenants
from signalcraft.storage.models import ApiToken, WebhookSecret
from signalcraft.storage.tenants import TenancyError
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


def test_a_slug_is_given_once(workspace: str) -> None:
    with pytest.raises(TenancyError, match="already"):
        tenants.create_workspace(workspace)


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("slug", ["", "Acme", "-acme", "a b", "a" * 64, "acme\n"])
def test_a_slug_has_a_form(slug: str) -> None:
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


def test_names_are_made_up_where_none_is_given(workspace: str) -> None:
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


def test_a_token_is_shown_once_and_kept_as_a_hash(workspace: str) -> None:
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


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def directory(environ: dict[str, str], clock: Clock) -> CredentialCache:
    add_workspace("default")
    add_workspace("acme")
    settings = Settings.from_environ({**environ, "ENCRYPTION_KEY": f"{KEY},{OTHER_KEY}", "SENTRY_CLIENT_SECRET": "a,b"})
    return CredentialCache(settings, clock=clock)


@pytest.fixture
def database_away(database_url: str) -> Iterator[None]:
    with no_database(database_url):
        yield


def names(directory: CredentialCache, workspace: str) -> list[str]:
    return [secret.name for secret in directory.secrets_of(workspace).secrets if secret.name != "decoy"]


def add_secret(name: str = "mine", *, key: str = KEY) -> None:
    with database.session():
        tenants.add_secret("acme", "integration", "value", [key], name)


def test_the_environments_secrets_are_the_default_workspaces_alone(directory: CredentialCache) -> None:
    assert names(directory, "default") == ["SENTRY_CLIENT_SECRET-1", "SENTRY_CLIENT_SECRET-2"]
    assert names(directory, "acme") == []


def test_stored_secrets_are_read_with_any_of_the_keys(directory: CredentialCache) -> None:
    add_secret("new")
    add_secret("old", key=OTHER_KEY)
    assert names(directory, "acme") == ["new", "old"]


def test_a_secret_that_no_key_opens_is_left_out_and_does_no_harm(directory: CredentialCache) -> None:
    add_secret("lost", key=Fernet.generate_key().decode())
    add_secret("mine")
    assert names(directory, "acme") == ["mine"]


def test_every_workspace_has_as_many_secrets_to_try_also_one_that_does_not_exist(directory: CredentialCache) -> None:
    kinds = [sorted(s.kind for s in directory.secrets_of(slug).secrets) for slug in ("default", "acme", "nobody")]
    assert kinds[0] == kinds[1] == kinds[2] == ["integration", "integration", "legacy", "servicehook"]
    assert directory.secrets_of("nobody").workspace_id == 0


def test_a_default_workspace_that_was_not_made_yet_has_no_secrets(environ: dict[str, str]) -> None:
    directory = CredentialCache(Settings.from_environ(environ))
    assert directory.secrets_of("default").workspace_id == 0
    assert names(directory, "default") == []
    assert directory.caller("test-api-token") is None


def wait_for_reader(directory: CredentialCache) -> None:
    assert directory._reader is not None
    directory._reader.join(5)


def test_what_is_known_is_read_anew_after_ten_seconds_beside_the_requests(
    directory: CredentialCache, clock: Clock
) -> None:
    assert names(directory, "acme") == []
    add_secret()
    clock.now += 10
    assert names(directory, "acme") == []
    clock.now += 0.1
    names(directory, "acme")
    wait_for_reader(directory)
    assert names(directory, "acme") == ["mine"]


def test_whoever_would_be_refused_is_looked_up_again_once_a_second(directory: CredentialCache, clock: Clock) -> None:
    assert names(directory, "acme") == []
    add_secret()
    assert not directory.refresh()
    clock.now += 1
    assert directory.refresh()
    assert names(directory, "acme") == ["mine"]
    assert not directory.refresh()


def test_nothing_known_and_no_database_is_unavailable(
    environ: dict[str, str], clock: Clock, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("database_away")
    directory = CredentialCache(Settings.from_environ(environ), clock=clock)
    with pytest.raises(DatabaseUnavailable):
        directory.secrets_of("default")
    with pytest.raises(DatabaseUnavailable):
        directory.caller("test-api-token")


def test_what_is_known_is_served_while_the_database_is_away(
    directory: CredentialCache, clock: Clock, request: pytest.FixtureRequest
) -> None:
    add_secret()
    assert names(directory, "acme") == ["mine"]
    request.getfixturevalue("database_away")
    clock.now += 3600
    began = time.monotonic()
    assert names(directory, "acme") == ["mine"]
    assert time.monotonic() - began < 0.1
    wait_for_reader(directory)
    assert names(directory, "acme") == ["mine"]


def test_tokens_name_their_workspace_and_scope(directory: CredentialCache) -> None:
    with database.session():
        reading = tenants.create_token("acme", can_write=False, name="grafana")
        writing = tenants.create_token("acme", can_write=True, name="oncall")
        revoked = tenants.create_token("acme", can_write=True, name="gone")
        tenants.revoke_token("acme", "gone")
    callers = [directory.caller(token) for token in (reading, writing)]
    assert [(c.workspace, c.token, c.can_write) for c in callers if c] == [
        ("acme", "grafana", False),
        ("acme", "oncall", True),
    ]
    for unknown in (revoked, "", "grafana", tenants.token_sha256(reading), "\udcff"):
        assert directory.caller(unknown) is None


def test_the_environments_token_opens_the_default_workspace(directory: CredentialCache) -> None:
    caller = directory.caller("test-api-token")
    assert caller is not None
    assert (caller.workspace, caller.can_write) == ("default", True)


def test_no_secret_shows_in_a_repr(directory: CredentialCache) -> None:
    add_secret()
    directory.secrets_of("acme")
    assert "value" not in repr([secret.name for secret in directory.secrets_of("acme").secrets])
    assert "b'value'" not in repr(directory.secrets_of("acme"))
    assert "b'value'" not in repr(directory._known)
