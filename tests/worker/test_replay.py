"""Recovery commands: ``reconcile``, ``replay`` and ``failed``."""

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
from signalcraft.domain.errors import UnexpectedShape
from signalcraft.groups import record
from signalcraft.groups.bursts import PendingEvent
from signalcraft.queues import dead_letters, jobs, reconcile
from signalcraft.settings import Settings
from signalcraft.sources import SOURCES
from signalcraft.sources.sentry import samples
from signalcraft.storage.database import open_database, session
from signalcraft.storage.delivery_models import FailedDelivery
from signalcraft.storage.models import AlertEvent, HourlyCount, Workspace
from signalcraft.storage.notification_models import Happening
from signalcraft.worker import process as processing
from signalcraft.worker.context import WorkerContext
from tests.support.builders import NOON, accepted, groups
from tests.support.queues import enqueue_deliveries, work

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
    delivery = accepted()
    body = b'{"action":"triggered"}'
    return replace(delivery, delivery=replace(delivery.delivery, body=body))


def dead_letter(*deliveries: AcceptedDelivery) -> None:
    with session():
        for delivery in deliveries:
            dead_letters.add_all([(delivery, UnexpectedShape("by older code"))], stage="normalize")


def summary(result: Result) -> str:
    """Return the last line: in a test, log lines come before it."""
    return result.stdout.splitlines()[-1]


# --- reconcile


def test_a_job_that_no_list_holds_is_requeued_and_processed(redis: Redis, run: Run) -> None:
    deliveries = [accepted() for _ in range(3)]
    enqueue_deliveries(redis, *deliveries)
    redis.lrem("rq:queue:alerts", 1, deliveries[1].delivery_id)
    assert run("reconcile").stdout == "1 jobs were put back.\n"
    assert run("reconcile").stdout == "0 jobs were put back.\n"
    work(redis)
    assert sum(group.count for group in groups()) == 3


def test_a_job_that_waits_is_claimed_or_failed_is_not_lost(redis: Redis) -> None:
    enqueue_deliveries(redis, *(accepted() for _ in range(4)))
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
    assert result.stderr.splitlines()[-1] == "Error: Error 111 connecting to 127.0.0.1:1. Connection refused."


# --- replay


def test_dead_letters_are_replayed_by_the_current_code_at_their_own_time_and_once(redis: Redis, run: Run) -> None:  # noqa: ARG001 - for the workspace
    dead_letter(accepted(issue="1", minute=5), accepted(issue="1", minute=7), broken())
    assert summary(run("replay", "--failed", "--dry-run")) == (
        "3 deliveries: 2 alerts would be added, 1 cannot be processed."
    )
    assert groups() == []
    assert summary(run("replay", "--failed")) == "3 deliveries: 2 alerts were added, 1 cannot be processed."
    (group,) = groups()
    assert (group.count, group.first_seen_at) == (2, NOON + timedelta(minutes=5))
    assert summary(run("replay", "--failed")) == "1 deliveries: 0 alerts were added, 1 cannot be processed."
    assert [group.count for group in groups()] == [2]


@pytest.mark.usefixtures("redis")
def test_an_alert_of_several_that_still_cannot_be_read_stays_the_dead_letter_that_it_is(run: Run) -> None:
    delivery = accepted()
    body = b'[{"title":"good","status":"firing"},{"status":"firing"}]'
    dead_letter(replace(delivery, source="generic", delivery=replace(delivery.delivery, body=body)))
    assert summary(run("replay", "--failed")) == "2 deliveries: 1 alerts were added, 1 cannot be processed."
    assert summary(run("failed", "replay", "2")) == "1 deliveries: 0 alerts were added, 1 cannot be processed."
    assert summary(run("replay", "--failed", "--dry-run")) == (
        "1 deliveries: 0 alerts would be added, 1 cannot be processed."
    )
    with session():
        assert [
            (row.delivery_id, row.replayed_at is None) for row in FailedDelivery.select().order_by(FailedDelivery.id)
        ] == [
            (delivery.delivery_id, False),
            (f"{delivery.delivery_id}:body[1]", True),
        ]


@pytest.mark.usefixtures("redis")
def test_a_replay_stores_what_happened_for_the_notifier(run: Run) -> None:
    dead_letter(accepted())
    del tasks._Configured.processor  # as in a separate process
    run("replay", "--failed")
    with session():
        (happening,) = Happening.select()
    assert (happening.kind, happening.routed_at) == ("opened", None)


def test_a_delivery_that_triggers_a_bug_does_not_affect_others(
    redis: Redis,  # noqa: ARG001 - for the workspace
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poison = accepted()
    process = processing.process

    def fail_on_poison(deliveries: Sequence[AcceptedDelivery], context: WorkerContext) -> record.RecordResult:
        if poison.delivery_id in {delivery.delivery_id for delivery in deliveries}:
            raise ZeroDivisionError
        return process(deliveries, context)

    monkeypatch.setattr(processing, "process", fail_on_poison)
    dead_letter(accepted(), poison, accepted())
    assert summary(run("replay", "--failed")) == "3 deliveries: 2 alerts were added, 1 cannot be processed."


def test_a_delivery_that_triggers_a_bug_in_normalizing_does_not_affect_others(
    redis: Redis,  # noqa: ARG001 - for the workspace
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poison = accepted(title="poison")
    of = PendingEvent.of

    def fail_on_poison(alert: NormalizedAlert, *arguments: Any, **options: Any) -> PendingEvent:  # noqa: ANN401 - as the original
        if alert.title == "poison":
            raise ZeroDivisionError
        return of(alert, *arguments, **options)

    monkeypatch.setattr(PendingEvent, "of", fail_on_poison)
    dead_letter(accepted(), poison, accepted())
    assert summary(run("replay", "--failed")) == "3 deliveries: 2 alerts were added, 1 cannot be processed."


def test_a_delivery_that_the_database_refuses_does_not_affect_others(redis: Redis, run: Run) -> None:  # noqa: ARG001 - for the workspace
    dead_letter(accepted(), replace(accepted(), workspace_id=99), accepted())
    assert summary(run("replay", "--failed", "--dry-run")) == (
        "3 deliveries: 2 alerts would be added, 1 cannot be processed."
    )
    assert summary(run("replay", "--failed")) == "3 deliveries: 2 alerts were added, 1 cannot be processed."
    with session():
        assert FailedDelivery.select().where(FailedDelivery.replayed_at.is_null()).count() == 1


def test_events_are_replayed_and_nothing_changes(redis: Redis, run: Run) -> None:
    enqueue_deliveries(redis, *(accepted(issue=str(number % 2), minute=number) for number in range(5)))
    work(redis)
    before = [(group.id, group.count, group.last_seen_at) for group in groups()]
    assert summary(run("replay", "--all")) == "5 deliveries: 0 alerts were added, 0 cannot be processed."
    assert [(group.id, group.count, group.last_seen_at) for group in groups()] == before


@pytest.mark.parametrize("arguments", [(), ("--dry-run",), ("--until", "2026-03-01"), ("--failed", "--all")])
def test_a_replay_that_does_not_say_of_what_is_refused(redis: Redis, run: Run, arguments: Sequence[str]) -> None:
    enqueue_deliveries(redis, accepted())
    work(redis)
    result = run("replay", *arguments)
    assert (result.exit_code, "--failed" in result.stderr, "--all" in result.stderr) == (2, True, True)


def test_a_replay_adds_to_no_statistics_but_what_it_stores(redis: Redis, run: Run) -> None:
    enqueue_deliveries(redis, *(accepted(issue=str(number % 2), minute=number) for number in range(5)))
    work(redis)
    assert hours() == (5, 0)
    run("replay", "--all")
    assert hours() == (5, 0)
    copy = accepted(issue="7")
    dead_letter(copy, replace(copy, delivery_id="copy"))
    run("replay", "--failed")
    assert hours() == (6, 0)


def hours() -> tuple[int, int]:
    """Return the alerts and the duplicates among them, in all hours."""
    with session():
        rows = list(HourlyCount.select())
    return sum(row.alerts for row in rows), sum(row.duplicates for row in rows)


def test_a_replay_of_one_workspace_leaves_the_others_alone(redis: Redis, run: Run) -> None:  # noqa: ARG001 - for the workspace
    with session():
        Workspace.create(slug="shop")
    dead_letter(accepted(), replace(accepted(), workspace_id=2, workspace="shop"))
    assert summary(run("replay", "--failed", "--workspace", "shop")).startswith("1 deliveries: 1 alerts were added")
    unknown = run("replay", "--failed", "--workspace", "nowhere")
    assert (unknown.exit_code, unknown.stderr) == (1, "Error: There is no workspace nowhere.\n")


def test_since_and_until_select_by_the_time_of_receipt(redis: Redis, run: Run) -> None:
    enqueue_deliveries(redis, *(accepted(minute=number) for number in range(10)))
    work(redis)
    selected = run("replay", "--since", "2026-03-01T12:03", "--until", "2026-03-01 12:06:00", "--dry-run")
    assert summary(selected) == "3 deliveries: 0 alerts would be added, 0 cannot be processed."


def test_an_event_without_a_body_is_not_replayed(redis: Redis, run: Run) -> None:
    enqueue_deliveries(redis, accepted())
    work(redis)
    with session():
        AlertEvent.update(payload_json=None).execute()
    assert summary(run("replay", "--all")) == "0 deliveries: 0 alerts were added, 0 cannot be processed."


@pytest.mark.parametrize("name", samples.NAMES)
def test_a_body_alone_is_normalized_like_the_whole_delivery(name: str) -> None:
    delivery = samples.build(name, secret="any").as_delivery(NOON)
    source = SOURCES["sentry"]
    recalled = source.recall(delivery.body, NOON)
    expected = source.normalize(delivery, Vocabulary()).outcomes
    actual = source.normalize(recalled, Vocabulary()).outcomes
    if not name.startswith("metric_alert"):  # its event id contains a header
        assert actual == expected
    assert [getattr(outcome, "fingerprint", None) for outcome in actual] == [
        getattr(outcome, "fingerprint", None) for outcome in expected
    ]


def test_an_event_whose_id_came_from_a_header_is_not_counted_again(redis: Redis, run: Run) -> None:
    enqueue_deliveries(redis, accepted("metric_alert.critical"))
    work(redis)
    assert "1 events stay as they are" in summary(run("replay", "--all"))
    assert [group.count for group in groups()] == [1]


# --- failed


def test_dead_letters_are_listed_and_shown(redis: Redis, run: Run) -> None:  # noqa: ARG001 - for the workspace
    bad = broken()
    dead_letter(bad)
    listed = run("failed", "list").stdout
    assert "shape_unexpected" in listed
    assert "1 deliveries." in listed
    with session():
        row = FailedDelivery.get()
    shown = run("failed", "show", str(row.id)).stdout
    assert bad.delivery_id in shown
    assert "by older code" in shown
    assert run("failed", "show", str(row.id), "--body").stdout_bytes == bad.delivery.body


def test_an_unknown_dead_letter_is_an_error(redis: Redis, run: Run) -> None:  # noqa: ARG001 - for the workspace
    result = run("failed", "show", "77")
    assert (result.exit_code, "There is no dead letter 77." in result.stderr) == (1, True)


def test_dead_letters_are_listed_with_the_slugs_of_their_workspaces(redis: Redis, run: Run) -> None:  # noqa: ARG001 - for the workspace
    with session():
        Workspace.create(slug="shop")
    dead_letter(accepted(), replace(accepted(), workspace_id=2), replace(accepted(), workspace_id=99))
    listed = run("failed", "list").stdout
    assert all(slug in listed for slug in ("default", "shop", "(deleted)"))
    of_shop = run("failed", "list", "--workspace", "shop").stdout
    assert ("shop" in of_shop, "default" in of_shop, of_shop.splitlines()[-1]) == (True, False, "1 deliveries.")
    assert "shop" in run("failed", "show", "2").stdout


def test_one_dead_letter_is_replayed_and_the_others_stay(redis: Redis, run: Run) -> None:  # noqa: ARG001 - for the workspace
    dead_letter(accepted(), accepted(), broken())
    assert summary(run("failed", "replay", "2")) == "1 deliveries: 1 alerts were added, 0 cannot be processed."
    assert pending_ids() == [1, 3]
    again, bad = run("failed", "replay", "2"), run("failed", "replay", "3")
    assert (again.exit_code, again.stderr.splitlines()[-1]) == (1, "Error: The dead letter 2 was replayed already.")
    assert (bad.exit_code, bad.stderr.splitlines()[-1]) == (1, "Error: The dead letter 3 still cannot be processed.")
    assert run("failed", "replay", "77").exit_code == 1


def test_a_dropped_dead_letter_is_gone_and_the_alarm_with_the_last(redis: Redis, run: Run) -> None:  # noqa: ARG001 - for the workspace
    dead_letter(accepted(), accepted(), replace(accepted(), workspace_id=99))
    assert run("failed", "drop", "2").stdout == "1 dead letters were dropped.\n"
    assert pending_ids() == [1, 3]
    assert run("failed", "drop", "2").exit_code == 1
    assert run("failed", "drop", "--before", "2999-01-01", "--workspace", "default").stdout.startswith("1 dead")
    assert run("failed", "drop", "--before", "2020-01-01").stdout.startswith("0 dead")
    assert run("failed", "drop", "--before", "2999-01-01").stdout.startswith("1 dead")
    with session():
        assert (dead_letters.depth(), dead_letters.any_within(60)) == (0, False)


@pytest.mark.parametrize("arguments", [(), ("1", "--before", "2999-01-01"), ("1", "--workspace", "default")])
def test_a_drop_that_does_not_say_of_what_drops_nothing(redis: Redis, run: Run, arguments: Sequence[str]) -> None:  # noqa: ARG001 - for the workspace
    dead_letter(accepted())
    assert run("failed", "drop", *arguments).exit_code == 2
    assert pending_ids() == [1]


def pending_ids() -> list[int]:
    with session():
        return sorted(row.id for row in dead_letters.newest(limit=100))
