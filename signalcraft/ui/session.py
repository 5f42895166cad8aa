"""Sessions of browsers: a signed cookie, the token of each form, and links that sign in once.

A cookie names a token of the API. The token is looked up in the credential cache with each request, so a session ends
when its token is revoked. Everything is signed with keys derived from the database URL, as cursors are.
"""

import hashlib
import hmac
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from itsdangerous import BadData, URLSafeTimedSerializer

#: How long a session lasts without a request.
SESSION_SECONDS: Final = 12 * 3600
#: Age from which a request gets a new cookie, so that a session that is used goes on.
RENEWAL_SECONDS: Final = 600
MAX_LINK_MINUTES: Final = 24 * 60
_MASK_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Who signed in, when, and with which token; ``nonce`` is new with each sign-in.

    ``token_id`` is 0 for the token of the environment, which ``proof`` recognizes: another one there is another token.
    """

    token_id: int
    name: str
    nonce: str
    signed_in_at: int
    proof: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInLink:
    """What a link signs in as: a token; ``nonce`` tells whether it was used."""

    token_id: int
    nonce: str
    expires_at: int


class Sessions:
    """Writer and reader of cookies, form tokens and links."""

    def __init__(self, key: bytes) -> None:
        """Sign with ``key``."""
        self._key = key

    @classmethod
    def from_secret(cls, secret: str) -> Self:
        """Sign with a key derived from ``secret``: the database URL serves well, as for cursors."""
        return cls(hmac.digest(secret.encode(), b"signalcraft sessions", "sha256"))

    def begin(self, *, token_id: int, name: str, environment_token: str = "") -> Session:
        """Return a new session; ``environment_token`` is API_TOKEN, if that is the token."""
        return Session(
            token_id=token_id,
            name=name,
            nonce=secrets.token_urlsafe(12),
            signed_in_at=int(datetime.now(UTC).timestamp()),
            proof="" if token_id else self.proof(environment_token),
        )

    def proof(self, environment_token: str) -> str:
        """Return what recognizes a token of the environment, and tells nothing about it."""
        return self._digest("proof", environment_token)[:_MASK_BYTES].hex()

    def write(self, session: Session) -> str:
        """Return the cookie of ``session``."""
        return str(self._serializer("session").dumps(asdict(session)))

    def read(self, cookie: str) -> tuple[Session, timedelta] | None:
        """Return the session of a cookie and the cookie's age; None if it is not ours, or too old."""
        try:
            fields, written_at = self._serializer("session").loads(
                cookie, max_age=SESSION_SECONDS, return_timestamp=True
            )
            return Session(**fields), datetime.now(UTC) - written_at
        except (BadData, TypeError):
            return None

    def form_token(self, session: Session, path: str) -> str:
        """Return a token for forms that are posted to ``path``.

        It is masked with new random bytes each time: a response is compressed together with what others wrote, and an
        unchanging token could be guessed from the lengths of many of them (BREACH).
        """
        mask = secrets.token_bytes(_MASK_BYTES)
        return (mask + _xor(mask, self._form_digest(session, path))).hex()

    def is_form_token(self, token: str, session: Session, path: str) -> bool:
        """Return whether ``token`` was issued to ``session`` for ``path``."""
        try:
            given = bytes.fromhex(token)
        except ValueError:
            return False
        unmasked = _xor(given[:_MASK_BYTES], given[_MASK_BYTES:])
        return hmac.compare_digest(unmasked, self._form_digest(session, path))

    def write_link(self, token_id: int, *, minutes: int) -> str:
        """Return what a link that signs in as the token says; it is good for ``minutes``."""
        expires_at = int((datetime.now(UTC) + timedelta(minutes=minutes)).timestamp())
        link = SignInLink(token_id=token_id, nonce=secrets.token_urlsafe(12), expires_at=expires_at)
        return str(self._serializer("link").dumps(asdict(link)))

    def read_link(self, text: str) -> SignInLink | None:
        """Return what a link says; None if it is not ours, or has expired."""
        try:
            link = SignInLink(**self._serializer("link").loads(text))
        except (BadData, TypeError, UnicodeError):
            return None
        return link if link.expires_at > datetime.now(UTC).timestamp() else None

    def seconds_left(self, link: SignInLink) -> int:
        """Return how long ``link`` is good for."""
        return max(1, link.expires_at - int(datetime.now(UTC).timestamp()))

    def _form_digest(self, session: Session, path: str) -> bytes:
        return self._digest("form", f"{session.nonce} {path}")[:_MASK_BYTES]

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{purpose} {text}".encode(errors="surrogateescape"), "sha256")

    def _serializer(self, purpose: str) -> URLSafeTimedSerializer:
        options: dict[str, Any] = {"digest_method": hashlib.sha256}
        return URLSafeTimedSerializer(self._key, salt=f"signalcraft {purpose}", signer_kwargs=options)


def _xor(mask: bytes, value: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(mask, value, strict=False))
