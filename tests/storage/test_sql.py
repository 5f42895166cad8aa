from datetime import UTC, datetime, timedelta, timezone

import pytest

from signalcraft.storage.database import database, session
from signalcraft.storage.sql import Columns, copy

COLUMNS: Columns = {
    "number": "bigint",
    "flag": "boolean",
    "body": "bytea",
    "pairs": "jsonb",
    "name": "text",
    "moment": "timestamptz",
}
ODD = "tab\t newline\n \\N \\. 'quote' 🦀 é"


@pytest.mark.usefixtures("clean_database")
def test_copied_values_are_stored_as_they_are() -> None:
    late = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    rows = [
        (1, True, bytes(range(256)), [["a", ODD]], ODD, late),
        (-(2**63), False, b"", {}, "", datetime(1970, 1, 1, tzinfo=UTC)),
        (2**63 - 1, *[None] * 5),
    ]
    with session(), database.atomic() as transaction:
        database.execute_sql(f"CREATE TABLE copied ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())})")
        copy("copied", COLUMNS, rows)
        stored = database.execute_sql("SELECT * FROM copied").fetchall()
        transaction.rollback()
    assert [tuple(bytes(each) if isinstance(each, memoryview) else each for each in row) for row in stored] == rows
