"""The page of all metrics, and the metrics of PostgreSQL."""

import pytest

from signalcraft.dev import metrics_docs
from signalcraft.ingest import context
from signalcraft.metrics import DECLARED
from signalcraft.storage import database_stats
from signalcraft.storage.database import database, session
from signalcraft.storage.tables import TABLES
from tests.support import ROOT
from tests.support.builders import pending_event, record
from tests.support.web_client import add_workspace, web

PAGE = ROOT / "docs" / "metrics.md"


def test_the_page_is_generated_from_the_declarations() -> None:
    """``make docs`` writes it."""
    assert PAGE.read_text(encoding="utf-8") == metrics_docs.page()
    assert all(f"`{one.name}`" in metrics_docs.page() for one in DECLARED)


def test_every_table_has_its_size(clean_database: str) -> None:  # noqa: ARG001 - for that it is clean
    add_workspace()
    record(*(pending_event(str(number)) for number in range(50)))
    with session():
        database.execute_sql("ANALYZE alert_event")
        sizes = database_stats.table_sizes()
    assert set(sizes) == {table._meta.table_name for table in TABLES}
    assert sizes["alert_event"].rows == 50
    assert sizes["alert_event"].bytes > 50 * 100
    assert all(size.rows >= 0 for size in sizes.values())


def test_connections_in_use_and_idle_are_counted_separately(clean_database: str) -> None:  # noqa: ARG001 - likewise
    with session():
        database.execute_sql("SELECT 1")
        within = database_stats.connections()
    after = database_stats.connections()
    assert (within["in_use"] - after["in_use"], after["idle"] - within["idle"]) == (1, 1)
    assert after["most"] == 20


@pytest.mark.usefixtures("clean_redis")
def test_metrics_show_the_pool_and_the_tables(environ: dict[str, str]) -> None:
    client = web(environ)
    text = client.get("/metrics").text
    with client.application.app_context():
        context.current().redis.close()
    assert 'signalcraft_table_bytes{table="alert_group"}' in text
    assert 'signalcraft_database_connections{state="most"} 20.0' in text
