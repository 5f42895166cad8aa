"""Workspaces and their credentials: webhook secrets and API tokens.

For the command line and the tests; ``ingest.credential_cache`` serves requests. Secrets must be read back to verify
signatures, so they are encrypted (Fernet: AES-128-CBC and HMAC-SHA256). Tokens are only compared, so a plain SHA-256 is
stored, which suffices for 256 random bits; slow hashes are for passwords that people choose. Call everything inside
``database.session()``.
"""

import hashlib
import secrets as randomness
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import count
from typing import Any, TypeVar

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from peewee import SQL, IntegrityError

from signalcraft.domain.errors import InvalidSetting, SignalCraftError
from signalcraft.settings import NEW_KEY_COMMAND
from signalcraft.settings.values import SLUG
from signalcraft.sources import DEFAULT_SOURCE, SOURCES
from signalcraft.storage.database import database
from signalcraft.storage.models import ApiToken, WebhookSecret, Workspace


class TenancyError(SignalCraftError):
    """A name is taken, unknown or invalid. The message is shown to the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretInfo:
    """A secret without its value."""

    name: str
    source: str
    kind: str
    created_at: datetime
    last_used_at: datetime | None
    retired_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenInfo:
    """A token without its value."""

    name: str
    can_write: bool
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


Info = TypeVar("Info", SecretInfo, TokenInfo)


def create_workspace(slug: str) -> int:
    """Create the workspace ``slug``; return its id.

    Raises:
        TenancyError: the slug is taken or invalid.
    """
    if not SLUG.fullmatch(slug):
        raise TenancyError("A workspace's slug is 1 to 63 of a-z, 0-9, _ and -, and begins with none of the last two.")
    try:
        with database.atomic():
            return int(Workspace.insert(slug=slug).execute())
    except IntegrityError:
        raise TenancyError(f"There is a workspace {slug} already.") from None


def workspaces() -> list[str]:
    """Return the slugs of all workspaces, in order."""
    return [workspace.slug for workspace in Workspace.select().order_by(Workspace.slug)]


def slugs() -> dict[int, str]:
    """Return the slugs of all workspaces by id."""
    return {workspace.id: workspace.slug for workspace in Workspace.select()}


def id_of(slug: str) -> int:
    """Return the id of the workspace ``slug``.

    Raises:
        TenancyError: no such workspace.
    """
    found: int | None = Workspace.select(Workspace.id).where(Workspace.slug == slug).scalar()
    if found is None:
        raise TenancyError(f"There is no workspace {slug}.")
    return found


def add_secret(
    workspace: str,
    kind: str,
    value: str,
    encryption_keys: Sequence[str],
    name: str | None = None,
    *,
    source: str = DEFAULT_SOURCE.NAME,
) -> str:
    """Store an encrypted secret of ``source``; return its name.

    The first key encrypts it. A name is generated if none is given.

    Raises:
        TenancyError: no such workspace or kind, an empty value, or the name is taken.
        InvalidSetting: no encryption key, or one is not a Fernet key.
    """
    kinds = [known.name for known in SOURCES[source].KINDS]
    if kind not in kinds:
        raise TenancyError(f"The kind of a secret of {source} is one of {', '.join(kinds)}.")
    if not value.strip():
        raise TenancyError("The secret is empty.")
    workspace_id = id_of(workspace)
    encrypted = cipher(encryption_keys).encrypt(value.strip().encode()).decode()
    name = name or _free_name(kind, {info.name for info in secrets(workspace)})
    try:
        with database.atomic():
            WebhookSecret.insert(
                workspace=workspace_id, name=name, source=source, kind=kind, value_encrypted=encrypted
            ).execute()
    except IntegrityError:
        raise TenancyError(f"The workspace has a secret {name} already.") from None
    return name


def secrets(workspace: str) -> list[SecretInfo]:
    """Return all secrets, including retired ones, oldest first.

    Raises:
        TenancyError: no such workspace.
    """
    return _of_workspace(WebhookSecret, SecretInfo, workspace)


def opened_secrets(workspace: str, encryption_keys: Sequence[str]) -> list[tuple[SecretInfo, bytes | None]]:
    """Return all secrets with decrypted values, including retired ones.

    The value is None if none of the keys decrypts it.

    Raises:
        TenancyError: no such workspace.
    """
    rows = WebhookSecret.select().where(WebhookSecret.workspace == id_of(workspace)).order_by(WebhookSecret.id)
    values = [decrypted(row.value_encrypted, encryption_keys) for row in rows]
    return list(zip(secrets(workspace), values, strict=True))


def decrypted(encrypted: str, encryption_keys: Sequence[str]) -> bytes | None:
    """Return a secret's value.

    None if none of the keys decrypts it.
    """
    try:
        return cipher(encryption_keys).decrypt(encrypted.encode())
    except (InvalidToken, InvalidSetting):
        return None


def retire_secret(workspace: str, name: str) -> None:
    """Retire a secret.

    Web processes stop using it within ten seconds.

    Raises:
        TenancyError: the workspace has no live secret of that name.
    """
    live = (
        (WebhookSecret.workspace == id_of(workspace))
        & (WebhookSecret.name == name)
        & WebhookSecret.retired_at.is_null()
    )
    if not WebhookSecret.update(retired_at=SQL("now()")).where(live).execute():
        raise TenancyError(f"The workspace has no live secret {name}.")


def reencrypt_secrets(encryption_keys: Sequence[str]) -> int:
    """Re-encrypt every secret with the first key; return their number.

    The other keys can then be removed.

    Raises:
        InvalidSetting: no encryption key, or one is not a Fernet key.
        TenancyError: none of the keys decrypts a secret; nothing was changed.
    """
    keys = cipher(encryption_keys)
    with database.atomic():
        rows = list(WebhookSecret.select().order_by(WebhookSecret.id).for_update())
        for row in rows:
            try:
                encrypted = keys.rotate(row.value_encrypted.encode()).decode()
            except InvalidToken:
                raise TenancyError(f"No key in ENCRYPTION_KEY opens the secret {row.name}.") from None
            WebhookSecret.update(value_encrypted=encrypted).where(WebhookSecret.id == row.id).execute()
    return len(rows)


def create_token(workspace: str, *, can_write: bool, name: str) -> str:
    """Create a bearer token and return it.

    Only its hash is stored.

    Raises:
        TenancyError: no such workspace, or the name is taken.
    """
    token = f"sc_{randomness.token_urlsafe(32)}"
    workspace_id = id_of(workspace)
    try:
        with database.atomic():
            ApiToken.insert(
                workspace=workspace_id, name=name, token_sha256=token_sha256(token), can_write=can_write
            ).execute()
    except IntegrityError:
        raise TenancyError(f"The workspace has a token {name} already.") from None
    return token


def token_to_sign_in(workspace: str, name: str) -> int:
    """Return the id of the token ``name``; create it, with the scope write, if there is none.

    The value of one that is created is never shown: it is there for the sessions of a person, who is named in
    histories, and whose sessions end when it is revoked.

    Raises:
        TenancyError: no such workspace, or the token was revoked.
    """
    with suppress(TenancyError):
        create_token(workspace, can_write=True, name=name)
    row = ApiToken.get_or_none((ApiToken.workspace == id_of(workspace)) & (ApiToken.name == name))
    if row is None or row.revoked_at is not None:
        raise TenancyError(f"The token {name} was revoked. Use another name.")
    return int(row.id)


def tokens(workspace: str) -> list[TokenInfo]:
    """Return all tokens, including revoked ones, oldest first.

    Raises:
        TenancyError: no such workspace.
    """
    return _of_workspace(ApiToken, TokenInfo, workspace)


def _of_workspace(table: Any, info: type[Info], workspace: str) -> list[Info]:  # noqa: ANN401 - Peewee's fields are untyped
    """Return the columns that ``info`` has of a workspace's rows, oldest first."""
    columns = [getattr(table, each.name) for each in fields(info)]
    return list(table.select(*columns).where(table.workspace == id_of(workspace)).order_by(table.id).objects(info))


def revoke_token(workspace: str, name: str) -> None:
    """Revoke a token; web processes refuse it within ten seconds.

    Raises:
        TenancyError: the workspace has no live token of that name.
    """
    live = (ApiToken.workspace == id_of(workspace)) & (ApiToken.name == name) & ApiToken.revoked_at.is_null()
    if not ApiToken.update(revoked_at=SQL("now()")).where(live).execute():
        raise TenancyError(f"The workspace has no live token {name}.")


def token_sha256(token: str) -> str:
    """Return the hash under which a token is stored."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


def cipher(encryption_keys: Sequence[str]) -> MultiFernet:
    """Return a cipher over the keys.

    It encrypts with the first key and decrypts with any.

    Raises:
        InvalidSetting: no key, or one is not a Fernet key.
    """
    if not encryption_keys:
        raise InvalidSetting(
            f"ENCRYPTION_KEY is not set; secrets are only stored encrypted. Make one: `{NEW_KEY_COMMAND}`."
        )
    try:
        return MultiFernet([Fernet(key) for key in encryption_keys])
    except ValueError:
        raise InvalidSetting("ENCRYPTION_KEY must be Fernet keys: 32 bytes in URL-safe base64.") from None


def _free_name(kind: str, taken: set[str]) -> str:
    return next(name for number in count(1) if (name := f"{kind}-{number}") not in taken)
