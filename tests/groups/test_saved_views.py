"""Saved views, as the table has them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from signalcraft.domain.errors import Conflict
from signalcraft.groups import saved_views
from signalcraft.storage.database import session
from tests.support.web_client import add_workspace


@pytest.mark.usefixtures("clean_database")
def test_a_workspace_never_has_more_views_than_it_may_however_many_are_saved_at_once() -> None:
    add_workspace("default")
    add_workspace("other")

    def save(number: int) -> bool:
        try:
            with session():
                saved_views.save(1, f"view {number}", f"?project={number}")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        saved = list(threads.map(save, range(saved_views.MAX_VIEWS + 8)))
    with session():
        saved_views.save(2, "view 1", "?project=1")
        assert len(saved_views.views(1)) == sum(saved) == saved_views.MAX_VIEWS
