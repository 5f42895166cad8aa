"""Ways back: ``reconcile``, ``replay`` and ``failed``."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result
from redis import Redis
from rq import Queue

from signalcraft import tasks
from signalcraft.cli.main import main
from signalcraft.domain.alerts import NormalizedAlert, Vocabulary
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import MissingTitle
from signalcraft.groups import record
from signalcraft.groups.bursts import PendingEvent
from signalcraft.queues import dead_letters, jobs, reconcile
from signalcraft.settings import Settings
from signalcraft.sources import SOURCES
from signalcraft.sources.sentry import samples
from signalcraft.storage.database import open_database, session
from signalcraft.storage.models import AlertEvent, FailedDelivery, Workspace
from signalcraft.worker import process as processing
from signalcraft.worker.context import WorkerContext
from tests.support.builders import NOON, accepted, groups
from tests.support.queues import take_in, work

Run = Callable[..., Result]


@pytest.fixture
def redis(clean_redis: Redis, settings: Settings) -> Iterator[Redis]:
    with session():
        Workspace.create(slug="default")
    tasks.configure_worker(settings, clean_redis)
    yield clean_redis
    open_database(settings.database_url)


@pytest.fixture
def run(environ: dict[str, str]) -> Run:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, env={**environ, "COLUMNS": "200"}, catch_exceptions=False)

    return run


def broken() -> AcceptedDelivery:
    one = accepted()
    body = b'{"action":"triggered","data":{"event":{"title":"no id anywhere"}}}'
    return replace(one, delivery=replace(one.delivery, body=body))


def set_aside(*deliveries: AcceptedDelivery) -> None:
    with session():
        for delivery in deliveries:
            dead_letters.add_all([(delivery, MissingTitle("as yesterday's code had it"))], stage="normalize")


def said(result: Result) -> str:
    """The summary: in a test, log lines go before it."""
    return result.stdout.splitlines()[-1]


# --- reconcile


def test_a_job_that_no_list_holds_is_put_back_and_worked_off(redis: Redis, run: Run) -> None:
    deliveries = [accepted() for _ in range(3)]
    take_in(redis, *deliveries)
    redis.lrem("rq:queue:alerts", 1, deliveries[1].delivery_id)
    assert run("reconcile").stdout == "1 jobs were put back.\n"
    assert run("reconcile").stdout == "0 jobs were put back.\n"
    work(redis)
    assert sum(group.count for group in groups()) == 3


def test_what_waits_is_worked_on_or_failed_is_not_lost(redis: Redis) -> None:
    take_in(redis, *(accepted() for _ in range(4)))
    names = [name.decode() for name in redis.lrange("rq:queue:alerts", 0, -1)]
    redis.lmove("rq:queue:alerts", "rq:queue:alerts:intermediate")
    redis.lrem("rq:queue:alerts", 1, names[1])
    redis.zadd("rq:wip:alerts", {f"{names[1]}:lease": 2e10})
    redis.lrem("rq:queue:alerts", 1, names[2])
    redis.zadd("rq:failed:alerts", {names[2]: 2e10})
    assert sum(reconcile.reconcile(redis, jobs.ALERTS)) == 0


def test_a_lost_job_goes_back_to_its_own_queue(redis: Redis) -> None:
    queue = jobs.queue(redis, jobs.NOTIFICATIONS)
    queue.enqueue(jobs.NOTIFY, {"reason": "new"}, job_id="lost")
    redis.delete(queue.key)
    assert sum(reconcile.reconcile(redis, jobs.ALERTS)) == 0
    assert sum(reconcile.reconcile(redis, jobs.NOTIFICATIONS)) == 1
    assert Queue("notifications", connection=redis).job_ids == ["lost"]


def test_without_redis_it_fails_in_one_line(redis: Redis, environ: dict[str, str]) -> None:  # noqa: ARG001 - for the workspace
    result = CliRunner().invoke(main, ["reconcile"], env={**environ, "REDIS_URL": "redis://127.0.0.1:1/0"})
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "Error: ConnectionError"


# --- replay


def test_what_failed_is_replayed_by_todays_code_at_its_own_time_and_once(redis: Redis, run: Run) -> None:  # noqa: ARG001 - for the workspace
    set_aside(accepted(issue="1", minute=5), accepted(issue="1", minute=7), broken())
    assert said(run("replay", "--failed", "--dry-run")) == (
        "3 deliveries: 2 alerts would be added, 1 cannot be worked off."
    )
    assert groups() == []
    assert said(run("replay", "--failed")) == "3 deliveries: 2 alerts were added, 1 cannot be worked off."
    (group,) = groups()
    assert (group.count, group.first_seen_at) == (2, NOON + timedelta(minutes=5))
    assert said(run("replay", "--failed")) == "1 deliveries: 0 alerts were added, 1 cannot be worked off."
    assert [group.count for group in groups()] == [2]


def test_people_are_told_of_what_a_replay_finds(redis: Redis, run: Run) -> None:
    set_aside(accepted())
    del tasks._Configured.processor, tasks._Configured.redis, tasks._Configured.breaker  # as in a process of its own
    run("replay", "--failed")
    assert redis.llen("rq:queue:notifications") == 1


def test_one_that_our_own_code_stumbles_over_costs_no_other(
    redis: Redis,  # noqa: ARG001 - for the workspace
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poison = accepted()
    process = processing.process

    def stumble(deliveries: Sequence[AcceptedDelivery], context: WorkerContext) -> record.RecordResult:
        if poison.delivery_id in {one.delivery_id for one in deliveries}:
            raise ZeroDivisionError
        return process(deliveries, context)

    monkeypatch.setattr(processing, "process", stumble)
    set_aside(accepted(), poison, accepted())
    assert said(run("replay", "--failed")) == "3 deliveries: 2 alerts were added, 1 cannot be worked off."


def test_one_that_our_own_code_cannot_even_read_costs_no_other(
    redis: Redis,  # noqa: ARG001 - for the workspace
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poison = accepted(title="poison")
    of = PendingEvent.of

    def stumble(alert: NormalizedAlert, *arguments: Any, **options: Any) -> PendingEvent:  # noqa: ANN401 - as it is
        if alert.title == "poison":
            raise ZeroDivisionError
        return of(alert, *arguments, **options)

    monkeypatch.setattr(PendingEvent, "of", stumble)
    set_aside(accepted(), poison, accepted())
    assert said(run("replay", "--failed")) == "3 deliveries: 2 alerts were added, 1 cannot be worked off."


def test_one_that_the_database_refuses_costs_no_other(redis: Redis, run: Run) -> None:  # noqa: ARG001 - for the workspace
    set_aside(accepted(), replace(accepted(), workspace_id=99), accepted())
    assert said(run("replay", "--failed", "--dry-run")) == (
        "3 deliveries: 2 alerts would be added, 1 cannot be worked off."
    )
    assert said(run("replay", "--failed")) == "3 deliveries: 2 alerts were added, 1 cannot be worked off."
    with session():
        assert FailedDelivery.select().where(FailedDelivery.replayed_at.is_null()).count() == 1


def test_events_are_replayed_and_nothing_changes(redis: Redis, run: Run) -> None:
    take_in(redis, *(accepted(issue=str(number % 2), minute=number) for number in range(5)))
    work(redis)
    before = [(group.id, group.count, group.last_seen_at) for group in groups()]
    assert said(run("replay")) == "5 deliveries: 0 alerts were added, 0 cannot be worked off."
    assert [(group.id, group.count, group.last_seen_at) for group in groups()] == before


def test_since_and_until_choose_by_the_time_of_receiving(redis: Redis, run: Run) -> None:
    take_in(redis, *(accepted(minute=number) for number in range(10)))
    work(redis)
    chosen = run("replay", "--since", "2026-03-01T12:03", "--until", "2026-03-01 12:06:00", "--dry-run")
    assert said(chosen) == "3 deliveries: 0 alerts would be added, 0 cannot be worked off."


def test_an_event_that_is_gone_comes_back_from_what_failed_only(redis: Redis, run: Run) -> None:
    take_in(redis, accepted())
    work(redis)
    with session():
        AlertEvent.update(payload_json=None).execute()
    assert said(run("replay")) == "0 deliveries: 0 alerts were added, 0 cannot be worked off."


@pytest.mark.parametrize("name", samples.NAMES)
def test_a_body_alone_is_read_as_the_whole_delivery_was(name: str) -> None:
    delivery = samples.build(name, secret="any").as_delivery(NOON)
    source = SOURCES["sentry"]
    recalled = source.recall(delivery.body, NOON)
    meant = source.normalize(delivery, Vocabulary()).outcomes
    again = source.normalize(recalled, Vocabulary()).outcomes
    if not name.startswith("metric_alert"):  # of which a header is part of the name
        assert again == meant
    assert [getattr(one, "fingerprint", None) for one in again] == [getattr(one, "fingerprint", None) for one in meant]


def test_an_event_named_by_a_header_that_is_gone_is_not_counted_again(redis: Redis, run: Run) -> None:
    take_in(redis, accepted("metric_alert.critical"))
    work(redis)
    assert "1 events stay as they are" in said(run("replay"))
    assert [group.count for group in groups()] == [1]


# --- failed


def test_what_failed_is_listed_and_shown(redis: Redis, run: Run) -> None:  # noqa: ARG001 - for the workspace
    bad = broken()
    set_aside(bad)
    listed = run("failed", "list").stdout
    assert "title_missing" in listed
    assert "1 deliveries." in listed
    with session():
        row = FailedDelivery.get()
    shown = run("failed", "show", str(row.id)).stdout
    assert bad.delivery_id in shown
    assert "no id anywhere" in shown
    assert run("failed", "show", str(row.id), "--body").stdout_bytes == bad.delivery.body


def test_there_is_no_such_failure(redis: Redis, run: Run) -> None:  # noqa: ARG001 - for the workspace
    result = run("failed", "show", "77")
    assert (result.exit_code, "there is no failed delivery 77" in result.stderr) == (1, True)
