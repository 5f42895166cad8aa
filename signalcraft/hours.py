"""What a batch adds to the counts of each hour, from which statistics are read.

Called by ``store.record`` as the last thing it writes: whoever holds a count waits for nothing but other counts, and
those are taken in one order, so nobody waits in a circle.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from signalcraft import statements
from signalcraft.domain.alerts import Decision
from signalcraft.domain.grouping import bucket_start
from signalcraft.runs import Arrival, Home
from signalcraft.storage.sql import query

Bucket = tuple[int, datetime, str, str, str]


def count(arrivals: Iterable[Arrival], homes: Sequence[Home]) -> None:
    """Add alerts as they came, copies too, and where those went that were not there before.

    A group that was there before is updated once a batch, in the bucket of the first alert that joined it.
    """
    alerts = Counter(_bucket(arrival) for arrival in arrivals)
    stored = Counter(_bucket(home.arrival) for home in homes)
    opened = {home.group_id: _bucket(home.arrival) for home in homes if home.decision is not Decision.JOINED}
    joined = {home.group_id: _bucket(home.arrival) for home in reversed(homes)}
    new = Counter(opened.values())
    updated = Counter(bucket for group_id, bucket in joined.items() if group_id not in opened)
    rows = [
        (*bucket, alerts[bucket], alerts[bucket] - stored[bucket], new[bucket], updated[bucket])
        for bucket in sorted(alerts)
    ]
    query(statements.COUNT_HOURS, statements.HOUR_COLUMNS, rows)


def _bucket(arrival: Arrival) -> Bucket:
    alert = arrival.alert
    hour = bucket_start(alert.received_at, minutes=60)
    return arrival.workspace_id, hour, alert.project, alert.environment, alert.severity.value
