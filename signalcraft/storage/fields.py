"""Fields of the tables that Peewee does not have."""

from typing import Any

from peewee import BigAutoField, BlobField

from signalcraft.storage.compression import compress, decompress


class BigIdentityField(BigAutoField):
    """A bigint that PostgreSQL counts up."""

    field_type = "BIGINT GENERATED ALWAYS AS IDENTITY"


class CompressedField(BlobField):
    """Bytes, stored compressed."""

    def db_value(self, value: bytes | str | None) -> Any:  # noqa: ANN401 - as the driver takes bytes
        """Compress the bytes, or the text as UTF-8."""
        raw = value.encode() if isinstance(value, str) else value
        return super().db_value(None if raw is None else compress(raw))  # type: ignore[no-untyped-call] # Peewee's

    def python_value(self, value: memoryview | None) -> bytes | None:
        """Return the original bytes."""
        return None if value is None else decompress(bytes(value))
