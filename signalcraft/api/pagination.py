"""Cursors: where the next page of a list begins, in a form that only this list takes back.

A cursor is signed, over its workspace and query too, so that one which was altered, or belongs to another list, is
refused rather than misread. It opens nothing by itself: every query is bound to the token's workspace anyway.
"""

import hashlib
import hmac
from datetime import datetime
from typing import Self

from itsdangerous import BadData, URLSafeSerializer

from signalcraft.domain.errors import InvalidCursor
from signalcraft.groups.queries import Position


class Cursors:
    """Writes and reads cursors."""

    def __init__(self, key: bytes) -> None:
        """``key`` signs them."""
        self._key = key

    @classmethod
    def from_secret(cls, secret: str) -> Self:
        """Sign with a key derived from ``secret``.

        The database's URL is a good one: every web process has the same, also after a restart, it holds a password,
        and no setting of its own has to be made up, rotated or lost. HMAC keeps it out of what we hand out.
        """
        return cls(hmac.digest(secret.encode(), b"signalcraft cursors", "sha256"))

    def write(self, position: Position, *, scope: str) -> str:
        """The cursor for ``position`` in the list that ``scope`` names, URL-safe."""
        value = position.value.isoformat() if isinstance(position.value, datetime) else position.value
        return str(self._serializer(scope).dumps([value, position.id]))

    def read(self, cursor: str, *, scope: str) -> Position:
        """The position that ``cursor`` stands for.

        Raises:
            InvalidCursor: it was not written for the list that ``scope`` names.
        """
        try:
            value, row_id = self._serializer(scope).loads(cursor)
        except (BadData, UnicodeError):  # the latter: half of a surrogate pair, which JSON can spell
            raise InvalidCursor from None
        return Position(value=datetime.fromisoformat(value) if isinstance(value, str) else value, id=row_id)

    def _serializer(self, scope: str) -> URLSafeSerializer:
        return URLSafeSerializer(self._key, salt=scope.encode(), signer_kwargs={"digest_method": hashlib.sha256})
