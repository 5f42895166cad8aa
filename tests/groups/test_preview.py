"""Preview of a delivery with several alerts."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from signalcraft.domain.alerts import NormalizedAlert, Vocabulary
from signalcraft.domain.deliveries import Delivery
from signalcraft.domain.errors import InvalidFields
from signalcraft.domain.grouping import GroupingPolicy
from signalcraft.groups.bursts import PendingEvent
from signalcraft.groups.preview import MAX_ALERTS, Preview, preview
from signalcraft.sources import SOURCES
from signalcraft.sources.alertmanager import samples
from signalcraft.storage.database import database
from tests.support.builders import groups, record
from tests.support.web_client import add_workspace

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALERTMANAGER = SOURCES["alertmanager"]


def delivery(*pods: str) -> Delivery:
    began = NOW - timedelta(minutes=1)
    alerts = [samples.alert("firing", pod=pod, started_at=began) for pod in pods]
    return Delivery(headers={}, body=samples.sample(alerts, secret="bearer").body, received_at=NOW)


def previews(*pods: str) -> list[Preview]:
    found, _ = preview(delivery(*pods), ALERTMANAGER, 1, policy=GroupingPolicy(), vocabulary=Vocabulary())
    return list(found)


def store(pod: str) -> None:
    (alert,) = ALERTMANAGER.normalize(delivery(pod), Vocabulary()).outcomes
    assert isinstance(alert, NormalizedAlert)
    record(PendingEvent.of(alert, delivery(pod), workspace_id=1))


@pytest.fixture
def counted(clean_database: str, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:  # noqa: ARG001 - opens the database
    """Count the connections and transactions that are taken and begun from the first preview on."""
    add_workspace()
    calls: Counter[str] = Counter()
    for name in ("connect", "begin"):
        call = getattr(database, name)
        monkeypatch.setattr(
            database, name, lambda *given, name=name, call=call: (calls.update([name]), call(*given))[1]
        )
    return calls


def test_each_alert_is_previewed_by_itself_all_in_one_transaction(counted: Counter[str]) -> None:
    assert [found.stored.decision.value for found in previews("one", "two", "one") if found.stored] == ["new"] * 3
    assert counted == {"connect": 1, "begin": 1}
    assert groups() == []
    store("one")
    known, joined, again = previews("one", "two", "two")
    (group,) = groups()
    assert (known.stored, known.group_id, joined.group_id, again.group_id) == (None, group.id, group.id, group.id)
    assert [found.stored.decision.value for found in (joined, again) if found.stored] == ["joined"] * 2
    assert group.count == 1


def test_a_delivery_of_too_many_alerts_is_not_previewed() -> None:
    with pytest.raises(InvalidFields) as refused:
        previews(*map(str, range(MAX_ALERTS + 1)))
    assert refused.value.errors == {"body": [f"A preview has at most {MAX_ALERTS} alerts."]}
