"""Episodes: a repeat counts once, and a group is resolved with the last of its episodes, in any order of what comes."""

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signalcraft.domain import grouping
from signalcraft.domain.alerts import StatusChange
from signalcraft.groups import episodes
from signalcraft.groups.bursts import PendingEvent
from signalcraft.storage import retention
from signalcraft.storage.database import database, session
from signalcraft.storage.models import AlertEvent, AlertGroup, Episode, GroupChange, Workspace
from signalcraft.storage.notification_models import Happening
from signalcraft.storage.sql import query
from tests.support.builders import at, change_group, end, episode, groups, pending_event, record, work
from tests.support.transactions import a_transaction_waits_for_a_lock
from tests.support.waiting import wait_until

POLICY = grouping.GroupingPolicy(spike_count=0)
End = tuple[int, StatusChange]
_ROWS_AND_LOOPS = r'"Actual Rows": ([\d.]+), "Actual Loops": (\d+)'


@pytest.fixture(autouse=True)
def workspace(clean_database: str) -> None:  # noqa: ARG001 - for that it is clean
    with session():
        Workspace.create(slug="one")


def statuses() -> list[str]:
    return [group.status for group in groups()]


def test_a_repeat_counts_once_and_keeps_the_group_alive_in_the_window() -> None:
    work(episode("pod-1", 0))
    work(episode("pod-1", 50))
    work(episode("pod-1", 100))
    work(episode("pod-2", 155))
    (group,) = groups()
    assert (group.count, group.first_seen_at, group.last_seen_at) == (2, at(0), at(155))


def test_a_repeat_in_one_batch_with_a_later_alert_keeps_the_group_alive_for_it() -> None:
    work(episode("pod-1", 0))
    work(episode("pod-1", 50), episode("pod-2", 90))
    assert [group.count for group in groups()] == [2]


def test_a_pair_that_sends_everything_twice_counts_once() -> None:
    work(episode("pod-1", 0), episode("pod-1", 0.1))
    work(ends=[end("pod-1", 5), end("pod-1", 5.1)])
    (group,) = groups()
    assert (group.count, group.status, group.resolved_at) == (1, "resolved", at(5))
    assert work(ends=[end("pod-1", 6)]) == 0
    with session():
        assert GroupChange.select().where(GroupChange.field == "status").count() == 1


def test_a_group_of_two_pods_is_resolved_when_the_second_is() -> None:
    work(episode("pod-1", 0), episode("pod-2", 1))
    work(ends=[end("pod-1", 5)])
    assert statuses() == ["open"]
    work(ends=[end("pod-2", 6)])
    (group,) = groups()
    assert (group.status, group.resolved_at, group.is_current) == ("resolved", at(6), False)


def test_an_end_that_comes_before_its_alert_resolves_it_at_once() -> None:
    assert work(ends=[end("pod-1", 5)]) == 0
    work(episode("pod-1", 6))
    (group,) = groups()
    assert (group.status, group.count, group.resolved_at) == ("resolved", 1, at(6))


def test_the_end_of_the_episode_before_does_not_end_the_next() -> None:
    work(episode("pod-1:first", 0))
    work(episode("pod-1:second", 10))
    work(ends=[end("pod-1:first", 11)])
    assert statuses() == ["open"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["in order", "later first"])
def test_an_episode_that_began_later_shows_that_the_one_before_is_over(order: tuple[int, int]) -> None:
    """A silence, or a sender that was away, can keep the end of an episode from coming."""
    first, second = (episode(f"pod-1:{number}", number, supersedes="pod-1:") for number in (1, 2))
    for position in order:
        work((first, second)[position], episode("pod-10:0", 0, issue="2", supersedes="pod-10:"))
    work(ends=[end("pod-1:2", 10)])
    assert {group.issue_id: group.status for group in groups()} == {"1": "resolved", "2": "open"}


def test_a_thousand_conditions_read_only_their_own_episodes_in_a_table_without_statistics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 10,000 alerts in one delivery, the first into a new table, took 10 seconds, and three such were canceled.
    burst = [episode(f"pod-{number}:1", 0, supersedes=f"pod-{number}:") for number in range(1_000)]
    work(*burst)
    plans: list[str] = []

    def explain(statement: str, *arguments: object, **parameters: object) -> list[tuple[Any, ...]]:
        rows = query(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *arguments, **parameters)  # type: ignore[arg-type]
        plans.extend(json.dumps(plan) for (plan,) in rows)
        return query(statement, *arguments, **parameters)  # type: ignore[arg-type]

    monkeypatch.setattr(episodes, "query", explain)
    with session():
        database.execute_sql("DELETE FROM pg_statistic WHERE starelid = 'episode'::regclass")
        firing = [(event.workspace_id, event.alert) for event in burst]
        episodes.apply_repeats(firing)
        episodes.begin(burst)
        episodes.follow(firing, [])
    read = [float(rows) * int(loops) for plan in plans for rows, loops in re.findall(_ROWS_AND_LOOPS, plan)]
    assert len(plans) == 7
    assert max(read) <= 2 * len(burst)


def test_an_alert_stored_after_the_end_of_the_others_opens_their_group_again() -> None:
    work(episode("pod-1", 0))
    work(ends=[end("pod-1", 5)])
    work(episode("pod-2", 4))
    (group,) = groups()
    assert (group.status, group.count, group.is_current) == ("open", 2, True)
    work(ends=[end("pod-2", 6)])
    assert statuses() == ["resolved"]


def test_a_group_opened_again_is_current_only_if_no_newer_one_is() -> None:
    work(episode("pod-1", 0))
    work(ends=[end("pod-1", 5)])
    work(episode("pod-1:again", 10))
    work(episode("pod-2", 4))
    older, newer = groups()
    assert (older.status, older.is_current, newer.is_current) == ("open", False, True)


def test_what_a_user_did_stands() -> None:
    work(episode("pod-1", 0))
    (group,) = groups()
    change_group(group.id, status="resolved", resolved_at=at(1), is_current=False)
    work(episode("pod-1", 2))
    assert [(group.status, group.resolved_at, group.last_seen_at) for group in groups()] == [
        ("resolved", at(1), at(0))
    ], "a repeat opens no group that a user resolved"
    change_group(group.id, status="open", resolved_at=None, is_current=True)
    work(ends=[end("pod-1", 5)])
    assert statuses() == ["resolved"]
    change_group(group.id, status="open", resolved_at=None, is_current=True)
    assert work(ends=[end("pod-1", 6)]) == 0
    assert statuses() == ["open"], "a group that a user opened again does not end twice"


def test_an_alert_that_fires_long_after_its_end_opens_its_group_again() -> None:
    """Prometheus was cut off for longer than ``endsAt``, and goes on with the same ``startsAt``."""
    work(episode("pod-1", 0))
    work(ends=[end("pod-1", 10)])
    assert work(episode("pod-1", 12)) == 0
    assert statuses() == ["resolved"], "a peer or a retry may deliver an old firing after the end"
    work(episode("pod-1", 200))
    (group,) = groups()
    assert (group.status, group.is_current, group.count, group.last_seen_at) == ("open", True, 1, at(200))
    with session():
        told = Happening.select(Happening.kind, Happening.at, Happening.actor).order_by(Happening.id).tuples()
        assert list(told) == [
            ("opened", at(0), "alert"),
            ("resolved", at(10), "source"),
            ("reopened", at(200), "source"),
        ]
    assert work(ends=[end("pod-1", 100)]) == 0, "an end that it has outlasted"
    assert work(ends=[end("pod-1", 210)]) == 1
    assert [group.resolved_at for group in groups()] == [at(210)]


def test_an_alert_of_the_batch_in_which_another_fires_again_joins_its_group() -> None:
    work(episode("pod-1", 0))
    work(ends=[end("pod-1", 10)])
    work(episode("pod-1", 40), episode("pod-2", 40.1))
    assert [(group.status, group.count) for group in groups()] == [("open", 2)]


def test_an_alert_whose_early_end_it_outlasted_opens_its_group() -> None:
    work(ends=[end("pod-1", 5)])
    work(episode("pod-1", 40))
    assert statuses() == ["open"]


def test_a_repeated_end_does_not_end_an_alert_that_outlasted_it_before_it_was_stored() -> None:
    """One worker has an alert before it, another one has its end again, a third its first firing."""
    work(ends=[end("pod-1", 10)])
    again = episode("pod-1", 40)
    with session():
        episodes.apply_repeats([(1, again.alert)])
    work(ends=[end("pod-1", 10)])
    work(episode("pod-1", 0))
    work(again)
    assert statuses() == ["open"]


def test_an_episode_that_another_one_superseded_does_not_fire_again() -> None:
    work(episode("pod-1:1", 0, supersedes="pod-1:"))
    work(episode("pod-1:2", 1, supersedes="pod-1:"), ends=[end("pod-1:2", 5)])
    assert statuses() == ["resolved"]
    work(episode("pod-1:1", 40, supersedes="pod-1:"))
    assert statuses() == ["resolved"]
    with session():
        assert [kind for (kind,) in Happening.select(Happening.kind).order_by(Happening.id).tuples()] == [
            "opened",
            "resolved",
        ]


def test_a_group_that_a_user_resolved_stays_so_when_its_alert_fires_again() -> None:
    work(episode("pod-1", 0))
    change_group(groups()[0].id, status="resolved", resolved_at=at(1), is_current=False)
    work(ends=[end("pod-1", 10)])
    work(episode("pod-1", 40))
    assert statuses() == ["resolved"]


def test_a_group_is_not_resolved_between_the_storing_and_the_following_of_its_second_pod() -> None:
    work(episode("pod-1", 0))
    record(episode("pod-2", 1))
    work(ends=[end("pod-1", 5)])
    assert statuses() == ["open"]


def test_an_episode_that_ends_while_it_is_superseded_keeps_its_end() -> None:
    work(episode("pod-1:1", 0, supersedes="pod-1:"))
    later = episode("pod-1:2", 20, supersedes="pod-1:")
    record(later)
    with ThreadPoolExecutor(1) as worker:
        with session(), database.atomic():
            database.execute_sql("UPDATE episode SET resolved_at = %s WHERE source_event_id = 'pod-1:1'", [at(10)])
            following = worker.submit(work, later)
            wait_until(a_transaction_waits_for_a_lock)
        following.result()
    with session():
        assert Episode.get(source_event_id="pod-1:1").resolved_at == at(10)


def test_a_batch_without_episodes_asks_nothing_of_the_table_of_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    run = database.execute_sql
    monkeypatch.setattr(database, "execute_sql", lambda sql, *rest: (asked.append(sql), run(sql, *rest))[1])
    work(pending_event())
    assert asked
    assert not [sql for sql in asked if "episode" in sql]


def test_old_episodes_are_purged_and_those_that_are_repeated_stay() -> None:
    work(episode("old", 0), episode("ended", 1), episode("repeated", 2), ends=[end("ended", 100)])
    work(episode("repeated", 100))
    with session():
        assert retention.purge_episodes(at(50)) == 1
        assert {row.source_event_id for row in Episode.select()} == {"ended", "repeated"}


def test_a_repeat_of_an_alert_that_was_purged_keeps_its_group_alive() -> None:
    work(episode("pod-1", 0), episode("pod-2", 1), episode("pod-3", 2))
    with session():
        assert sum(retention.delete_events(at(60))) == 1
    work(episode("pod-2", 50))
    (group,) = groups()
    assert (group.count, group.last_seen_at) == (3, at(50))


# The law.

few = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PODS = ("pod-1", "pod-2", "pod-3")


@st.composite
def received(draw: st.DrawFn) -> list[PendingEvent]:
    """Episodes with repeats and twins, and alerts that are none, all inside one window."""
    minutes = st.integers(0, 590).map(lambda tenths: tenths / 10)
    common = {"title": "it fails", "link": None}
    firing = st.builds(episode, st.sampled_from(PODS), minutes, issue=st.sampled_from("12"), **_just(common))
    others = st.builds(pending_event, st.sampled_from(("a", "b")), minutes, issue=st.just("1"), **_just(common))
    events = draw(st.lists(firing, min_size=1, max_size=12))
    plain = draw(st.lists(others, max_size=2, unique_by=lambda event: event.identity))
    # One episode is of one problem, whatever was drawn.
    issue = {event.alert.source_event_id: event for event in reversed(events)}
    return plain + [
        replace(
            issue[event.alert.source_event_id],
            alert=replace(
                issue[event.alert.source_event_id].alert,
                received_at=event.alert.received_at,
                occurred_at=event.alert.occurred_at,
            ),
        )
        for event in events
    ]


def _just(values: dict[str, object]) -> dict[str, st.SearchStrategy[object]]:
    return {name: st.just(value) for name, value in values.items()}


def cut(draw: st.DrawFn, mixed: Sequence[PendingEvent]) -> list[Sequence[PendingEvent]]:
    cuts = sorted(draw(st.lists(st.integers(0, len(mixed)), max_size=4)))
    return [mixed[i:j] for i, j in zip([0, *cuts], [*cuts, len(mixed)], strict=True)]


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[PendingEvent], list[Sequence[PendingEvent]]]:
    events = draw(received())
    return events, cut(draw, draw(st.permutations(events)))


def rows() -> list[tuple[object, ...]]:
    names = ("group_key", "status", "is_current", "count", "first_seen_at", "last_seen_at", "severity", "title")
    columns = [getattr(AlertGroup, name) for name in names]
    with session():
        return [
            (*row[:-1], *sorted(name for (name,) in _event_ids(row[-1])))
            for row in AlertGroup.select(*columns, AlertGroup.id).order_by(AlertGroup.group_key).tuples()
        ]


def _event_ids(group_id: int) -> list[tuple[str]]:
    return list(AlertEvent.select(AlertEvent.source_event_id).where(AlertEvent.alert_group_id == group_id).tuples())


def clear() -> None:
    with session():
        database.execute_sql("TRUNCATE alert_event, alert_group, episode RESTART IDENTITY CASCADE")


@few
@given(batches())
def test_any_order_any_repeats_and_any_batches_make_the_same_groups(
    drawn: tuple[list[PendingEvent], list[Sequence[PendingEvent]]],
) -> None:
    events, cut_up = drawn
    clear()
    for event in sorted(events, key=lambda event: event.alert.received_at):
        work(event, policy=POLICY)
    expected = rows()
    assert sum(group.count for group in groups()) == len({event.identity for event in events})
    clear()
    for batch in cut_up:
        work(*batch, policy=POLICY)
    assert rows() == expected
    clear()
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(lambda batch: work(*batch, policy=POLICY), cut_up))
    assert rows() == expected


@st.composite
def stories(draw: st.DrawFn) -> list[PendingEvent | End]:
    """Alerts and ends in any order, each perhaps twice; some fire again after their end, soon or much later."""
    names = draw(st.lists(st.sampled_from(PODS), min_size=1, max_size=3, unique=True))
    said: list[PendingEvent | End] = []
    for position, name in enumerate(names):
        said += [episode(name, position)] * draw(st.integers(1, 2))
        said += [end(name, 10 + position)] * draw(st.integers(0, 2))
        said += [episode(name, minute) for minute in draw(st.lists(st.sampled_from((11.5, 40, 51)), max_size=2))]
        said += [end(name, 50)] * draw(st.integers(0, 2))
    return draw(st.permutations(said))


@few
@given(stories(), st.booleans())
def test_a_group_is_unresolved_exactly_while_one_of_its_episodes_lasts(
    said: list[PendingEvent | End],
    concurrently: bool,  # noqa: FBT001 - drawn
) -> None:
    clear()
    with ThreadPoolExecutor(4 if concurrently else 1) as workers:
        list(workers.map(tell, said))
    with session():
        for group in AlertGroup.select():
            lasting = [name for (name,) in _event_ids(group.id) if lasts(name, said)]
            assert (group.status != "resolved") == bool(lasting)
        assert AlertEvent.select().count() == len({each.identity for each in said if isinstance(each, PendingEvent)})


def lasts(name: str, said: Sequence[PendingEvent | End]) -> bool:
    ends = [each[1].received_at for each in said if isinstance(each, tuple) and each[1].event_id == name]
    fired = (each.alert for each in said if isinstance(each, PendingEvent))
    return not ends or max(ends) + episodes.GRACE < max(
        alert.received_at for alert in fired if alert.source_event_id == name
    )


def tell(said: PendingEvent | End) -> None:
    if isinstance(said, PendingEvent):
        work(said, policy=POLICY)
    else:
        work(ends=[said])


def test_every_order_of_two_pods_ends_alike() -> None:
    said = [episode("pod-1", 0), episode("pod-2", 1), end("pod-1", 5), end("pod-2", 6)]
    for order in permutations(said):
        clear()
        for each in order:
            tell(each)
        assert set(statuses()) == {"resolved"}, [getattr(each, "identity", each) for each in order]
