"""Alerts of other senders through the whole product: what lasts, what ends, what is kept, and what is replayed."""

from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from signalcraft import tasks
from signalcraft.settings import Settings
from signalcraft.sources.generic import samples
from signalcraft.sources.protocol import Sample
from signalcraft.storage.database import session
from signalcraft.storage.delivery_models import FailedDelivery, UnhandledDelivery
from signalcraft.worker import replay
from signalcraft.worker.context import WorkerContext
from tests.support.builders import groups
from tests.support.queues import work
from tests.support.web_client import add_workspace, send, web

PATH = "/webhooks/generic"
MAPPING = '[ci]\ntitle = "/job/name"\nstatus = { default = "firing" }'


@pytest.fixture
def client(environ: dict[str, str]) -> FlaskClient:
    add_workspace()
    return web(environ, GENERIC_TOKEN="token")


@pytest.fixture
def worked(clean_redis: Redis, settings: Settings) -> Redis:
    tasks.configure_worker(settings, clean_redis)
    return clean_redis


def take(client: FlaskClient, worked: Redis, *sent: Sample) -> list[tuple[str, int, str]]:
    for each in sent:
        assert send(client, each, PATH).status_code in (200, 202)
        work(worked)
    return sorted((group.title, group.count, group.status) for group in groups())


def made(status: str, **fields: Any) -> Sample:  # noqa: ANN401 - JSON
    content = {name: value for name, value in samples.alert(status, **fields).items() if value is not None}
    return samples.sample(content, secret="token")


def mapped(body: dict[str, Any]) -> Sample:
    return replace(samples.sample(body, secret="token"), headers=mapping_headers())


def mapping_headers() -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "Authorization": "Bearer token",
        "X-SignalCraft-Mapping": "ci",
    }


def test_a_group_is_resolved_with_the_last_of_its_ids_and_repeats_count_once(
    client: FlaskClient, worked: Redis
) -> None:
    one, two = (made("firing", machine=machine) for machine in ("db1", "db2"))
    again = made("firing", machine="db1", description="still")
    assert take(client, worked, one, two, again) == [(samples.TITLE, 2, "open")]
    assert take(client, worked, made("resolved", machine="db1")) == [(samples.TITLE, 2, "open")]
    assert take(client, worked, made("resolved", machine="db2")) == [(samples.TITLE, 2, "resolved")]


def test_without_an_id_each_counts_and_the_next_resolved_one_ends_the_group(client: FlaskClient, worked: Redis) -> None:
    both = [made("firing", id=None, description=text) for text in ("a", "b")]
    other = made("firing", id=None, project="other")
    assert take(client, worked, *both, other) == [(samples.TITLE, 1, "open"), (samples.TITLE, 2, "open")]
    assert take(client, worked, made("resolved", id=None)) == [
        (samples.TITLE, 1, "open"),
        (samples.TITLE, 2, "resolved"),
    ]


def test_a_body_whose_mapping_the_worker_does_not_know_yet_is_replayed_when_it_does(
    worked: Redis, environ: dict[str, str]
) -> None:
    add_workspace()
    newer = web(environ, GENERIC_TOKEN="token", GENERIC_MAPPINGS=MAPPING)
    assert take(newer, worked, mapped({"job": {"name": "nightly"}})) == []
    with session():
        assert [row.code for row in FailedDelivery.select()] == ["mapping_unknown"]
        known = WorkerContext.from_settings(Settings.from_environ({**environ, "GENERIC_MAPPINGS": MAPPING}))
        (page,) = replay.retained_deliveries(replay.Selection(failed=True))
        total = replay.ReplayResult()
        replay.replay(page, known, total)
        assert (total.alerts, total.still_failing) == (1, 0)
    assert [group.title for group in groups()] == ["nightly"]


def test_what_a_mapping_ignores_is_kept_raw(client: FlaskClient, worked: Redis) -> None:
    test_message = samples.build("generic.uptimekuma", secret="token", heartbeat=None, monitor=None)
    assert take(client, worked, test_message) == []
    with session():
        assert UnhandledDelivery.select().count() == 1
        assert not FailedDelivery.select().count()
