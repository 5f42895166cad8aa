"""Cursors: the signed start of the next page of a list.

The signature covers the workspace and the query, so an altered cursor, or a cursor of another list, is refused rather
than misread. A cursor grants no access: every query is bound to the workspace of the token anyway.
"""

import hashlib
import hmac
from datetime import datetime
from typing import Self

from itsdangerous import BadData, URLSafeSerializer

from signalcraft.domain.errors import InvalidCursor
from signalcraft.groups.reading.pages import Position


class Cursors:
    """Writer and reader of cursors."""

    def __init__(self, key: bytes) -> None:
        """``key`` signs the cursors."""
        self._key = key

    @classmethod
    def from_secret(cls, secret: str) -> Self:
        """Sign with a key derived from ``secret``.

        The database URL serves well: all web processes share it, it survives a restart, it contains a password, and it
        needs no setting that has to be generated, rotated or may be lost. HMAC keeps it out of the cursors.
        """
        return cls(hmac.digest(secret.encode(), b"signalcraft cursors", "sha256"))

    def write(self, position: Position | None, *, scope: str) -> str | None:
        """Return a URL-safe cursor for ``position`` in a list; None for none.

        ``scope`` names the list.
        """
        if position is None:
            return None
        value = position.value.isoformat() if isinstance(position.value, datetime) else position.value
        return str(self._serializer(scope).dumps([value, position.id]))

    def read(self, cursor: str | None, *, scope: str) -> Position | None:
        """Return the position that ``cursor`` encodes; None for none, which is the beginning.

        Raises:
            InvalidCursor: the cursor was not written for the list that ``scope`` names.
        """
        if cursor is None:
            return None
        try:
            value, row_id = self._serializer(scope).loads(cursor)
        except (BadData, UnicodeError):  # UnicodeError: half of a surrogate pair, which JSON can contain
            raise InvalidCursor(errors={"cursor": ["Must be the next_cursor of this list."]}) from None
        return Position(value=datetime.fromisoformat(value) if isinstance(value, str) else value, id=row_id)

    def _serializer(self, scope: str) -> URLSafeSerializer:
        return URLSafeSerializer(self._key, salt=scope.encode(), signer_kwargs={"digest_method": hashlib.sha256})
