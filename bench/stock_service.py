"""The baseline of the whole service, as one would write it in an hour: no signature, no grouping, one INSERT a job.

gunicorn serves ``bench.stock_service:app``: a rate limit in Redis, SET NX on the event's id, then ``Queue.enqueue``.
RQ's ``SimpleWorker`` (``bench.stock``) runs ``store``.
"""

import os
from hashlib import sha256

import psycopg2
from flask import Flask, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class
from redis import Redis
from rq import Queue

from bench.stock import QUEUE

TABLE = "CREATE TABLE stock_event (id bigserial PRIMARY KEY, received_at timestamptz DEFAULT now(), body jsonb)"
_KEY_TTL_SECONDS = 3600
_INSERT = "INSERT INTO stock_event (body) VALUES (%s)"
_connections: list[Connection] = []

app = Flask("stock", static_folder=None)
_redis = Redis.from_url(os.environ.get("REDIS_URL", "redis://"))
_queue = Queue(QUEUE, connection=_redis)
_limiter = Limiter(get_remote_address, app=app, storage_uri=os.environ.get("REDIS_URL", "redis://"))


@app.post("/webhooks/sentry")
@_limiter.limit("1000000000/minute")
def receive() -> tuple[dict[str, str], int]:
    """Enqueue the body, unless its like was enqueued within the hour."""
    body = request.get_data(as_text=True)
    if not _redis.set(f"stock:{sha256(body.encode()).hexdigest()}", 1, nx=True, ex=_KEY_TTL_SECONDS):
        return {"status": "duplicate"}, 200
    _queue.enqueue(store, body)
    return {"status": "accepted"}, 202


@app.get("/healthz")
def healthz() -> dict[str, str]:
    """Report that the process is up."""
    return {"status": "ok"}


def store(body: str) -> None:
    """Insert one event, and commit."""
    if not _connections:
        _connections.append(psycopg2.connect(os.environ["DATABASE_URL"]))
    with _connections[0] as connection, connection.cursor() as cursor:
        cursor.execute(_INSERT, (body,))
