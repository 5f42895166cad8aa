"""Build and drop indexes while alerts are stored, for migrations.

There is no transaction around it: the migration says ``atomic = False``. A build waits for older transactions, such as
a backup, and nothing waits for it meanwhile. A build that was interrupted leaves an invalid index.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from peewee import PostgresqlDatabase

_LOCK_TIMEOUT = "1h"


def build(db: PostgresqlDatabase, indexes: Mapping[str, str], *, instead_of: Iterable[str] = ()) -> None:
    """Build ``indexes``: definitions by name, each with its table. Then drop those that they replace."""
    with _long_lock_timeout(db):
        _drop(db, indexes)  # what an interrupted attempt has left
        for name, definition in indexes.items():
            db.execute_sql(f"CREATE INDEX CONCURRENTLY {name} ON {definition}")
        _drop(db, instead_of)


def drop(db: PostgresqlDatabase, names: Iterable[str]) -> None:
    """Drop the indexes that are there."""
    with _long_lock_timeout(db):
        _drop(db, names)


def _drop(db: PostgresqlDatabase, names: Iterable[str]) -> None:
    for name in names:
        db.execute_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


@contextmanager
def _long_lock_timeout(db: PostgresqlDatabase) -> Iterator[None]:
    ((timeout,),) = db.execute_sql("SHOW lock_timeout").fetchall()
    db.execute_sql(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
    try:
        yield
    finally:
        db.execute_sql(f"SET lock_timeout = '{timeout}'")
