"""Saved views, as the table has them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from signalcraft.domain.errors import Conflict
from signalcraft.groups import saved_views
from signalcraft.storage.database import database, session
from tests.support.transactions import a_transaction_waits_for_a_lock
from tests.support.waiting import wait_until
from tests.support.web_client import add_workspace


def save(workspace_id: int, number: int) -> None:
    with session():
        saved_views.save(workspace_id, f"view {number}", f"?project={number}")


@pytest.mark.usefixtures("clean_database")
def test_of_two_views_that_are_saved_at_once_only_one_takes_the_last_room_of_its_workspace() -> None:
    for slug in ("default", "other"):
        add_workspace(slug)
    for number in range(saved_views.MAX_VIEWS - 1):
        save(1, number)
    with ThreadPoolExecutor(1) as thread:
        with session(), database.atomic():
            saved_views.save(1, "one", "?q=one")
            save_another = thread.submit(save, 1, 999)
            wait_until(lambda: save_another.done() or a_transaction_waits_for_a_lock())
        with pytest.raises(Conflict, match="30 views"):
            save_another.result()
    save(2, 1)
    with session():
        assert len(saved_views.views(1)) == saved_views.MAX_VIEWS
