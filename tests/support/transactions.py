"""Pauses in transactions, for tests of two that meet."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from signalcraft.storage.database import database


@contextmanager
def pause_before_commit(reached: threading.Event, go_on: threading.Event) -> Iterator[None]:
    """Block the next commit of this thread until ``go_on`` is set."""
    commit = database.commit
    this_thread = threading.get_ident()

    def wait_and_commit() -> object:
        if threading.get_ident() == this_thread:
            reached.set()
            assert go_on.wait(10)
        return commit()

    database.commit = wait_and_commit
    try:
        yield
    finally:
        database.commit = commit


def a_transaction_waits_for_a_lock() -> bool:
    ((waits,),) = database.execute_sql("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").fetchall()
    return bool(waits)
