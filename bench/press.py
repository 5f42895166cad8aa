"""How long a button of Slack takes to press while a worker drains a queue at full speed.

gunicorn and worker are real processes. Cards are rows, as a notifier would have recorded them: nothing is posted. Slack
shows an error after three seconds.
"""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlencode

from bench import draining
from bench.arena import Arena, BenchError, Lane
from bench.deliveries import Maker
from bench.figures import Figure
from bench.pairs import percentile
from bench.serving import served

_SECRET = "bench-slack-secret"
_TEAM, _APP, _CHANNEL = "T0BENCH", "A0BENCH", "C0BENCH"
_PAUSE_SECONDS = 0.05
#: Each group has a card that was posted.
_CARDS = (
    """
    INSERT INTO receiver_state (receiver, external_account, external_channel)
    VALUES ('ops', 'T0BENCH A0BENCH', 'C0BENCH')""",
    """
    INSERT INTO notification (workspace_id, alert_group_id, receiver, route, mode, reason, rank, state, happened_at,
        due_at, sent_at, external_channel, external_id)
    SELECT workspace_id, id, 'ops', 'all', 'card', 'opened', 3, 'sent', now(), now(), now(), 'C0BENCH', id::text
    FROM alert_group""",
)
_IDS = "SELECT array_to_json(array_agg(id)) FROM (SELECT id FROM alert_group WHERE is_current ORDER BY id LIMIT 100) g"


def run(arena: Arena) -> Iterator[Figure]:
    """Measure presses at a steady pace, and how much was stored meanwhile."""
    number = 100 if arena.quick else 400
    maker = Maker()
    with (
        arena.lane("press", SLACK_SIGNING_SECRET=_SECRET) as lane,
        served(lane) as port,
        draining.ours(lane) as drainer,
    ):
        lane.run(*_CARDS)
        groups = _ids(lane)
        stopped = threading.Event()
        drained = 0

        def drain() -> None:
            nonlocal drained
            while not stopped.is_set():
                drainer.drain(maker.accepted(2_000))
                drained += 2_000

        thread = threading.Thread(target=drain, daemon=True)
        thread.start()
        began = time.perf_counter()
        times = [_press(port, groups[each % len(groups)], each // len(groups)) for each in range(number)]
        rate = drained / (time.perf_counter() - began)
        stopped.set()
        thread.join()
    for percent, max_ms in ((50, 100), (99, 300)):
        yield Figure(
            benchmark="press",
            name=f"p{percent} of a press in Slack while the worker drains",
            value=percentile(times, percent) * 1000,
            unit="ms",
            against="absolute",
            at_most=max_ms,
            detail={"presses": number, "longest, ms": max(times) * 1000, "stored meanwhile, events/s": rate},
        )


def _ids(lane: Lane) -> list[int]:
    with lane.connect() as connection, connection.cursor() as cursor:
        cursor.execute(_IDS)
        (found,) = cursor.fetchone()
    return list(found)


def _press(port: int, group: int, turn: int) -> float:
    """Acknowledge a group, or reopen it the next time; return how long that took."""
    time.sleep(_PAUSE_SECONDS)
    payload = {
        "type": "block_actions",
        "team": {"id": _TEAM},
        "api_app_id": _APP,
        "channel": {"id": _CHANNEL},
        "container": {"message_ts": str(group)},
        "user": {"id": f"U{turn}", "name": "ann"},
        "actions": [{"action_id": ("ack", "reopen")[turn % 2], "value": str(group)}],
    }
    body = urlencode({"payload": json.dumps(payload)}).encode()
    moment = str(int(time.time()))
    digest = hmac.new(_SECRET.encode(), b"v0:" + moment.encode() + b":" + body, hashlib.sha256).hexdigest()
    headers = {"X-Slack-Request-Timestamp": moment, "X-Slack-Signature": f"v0={digest}"}
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    began = time.perf_counter()
    connection.request("POST", "/slack/actions", body, headers)
    status = connection.getresponse().status
    took = time.perf_counter() - began
    connection.close()
    if status != 200:
        raise BenchError(f"a press was answered with {status}")
    return took
