from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalcraft.domain.alerts import Decision, GroupStatus
from signalcraft.domain.grouping import Assignment, Span, assign, bucket_start, cut_into_bursts, group_key

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WINDOW = timedelta(minutes=60)
TEXTS = st.text(max_size=20)


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


def span(group_id: int, first: float, last: float, **state: object) -> Span:
    defaults: dict[str, object] = {"status": GroupStatus.OPEN, "is_current": False}
    return Span(group_id=group_id, first_seen_at=at(first), last_seen_at=at(last), **defaults | state)  # type: ignore[arg-type]


def key(source: str, project: str, environment: str, fingerprint: str) -> str:
    return group_key(source=source, project=project, environment=environment, fingerprint=fingerprint)


class TestKey:
    def test_it_starts_with_its_version_and_is_the_hash_of_a_json_array(self) -> None:
        # printf '["sentry","api","prod","issue:1"]' | sha256sum
        expected = "v1:a8c66df6ae05d688c87d0b9b21beb8f9e97ea9086c07dfd512d360471b44a606"
        assert key("sentry", "api", "prod", "issue:1") == expected

    def test_surrounding_white_space_and_case_do_not_matter(self) -> None:
        assert key(" Sentry", "API ", "Prod\t", "ISSUE:1\n") == key("sentry", "api", "prod", "issue:1")

    @given(st.lists(TEXTS, min_size=4, max_size=4), st.lists(TEXTS, min_size=4, max_size=4))
    def test_parts_that_differ_have_keys_that_differ(self, one: list[str], other: list[str]) -> None:
        same = [part.strip().casefold() for part in one] == [part.strip().casefold() for part in other]
        assert (key(*one) == key(*other)) is same

    def test_moving_a_character_from_one_part_to_the_next_makes_another_key(self) -> None:
        assert key("a", "bc", "prod", "x") != key("ab", "c", "prod", "x")


class TestBursts:
    def test_only_a_gap_longer_than_the_window_starts_a_new_burst(self) -> None:
        bursts = cut_into_bursts([at(121), at(0), at(60)], WINDOW, received_at=lambda moment: moment)
        assert bursts == [[at(0), at(60)], [at(121)]]

    def test_no_items_have_no_bursts(self) -> None:
        assert cut_into_bursts([], WINDOW, received_at=lambda moment: moment) == []

    @given(st.lists(st.integers(0, 10_000).map(at)))
    def test_bursts_are_ordered_and_separated_by_more_than_the_window(self, moments: list[datetime]) -> None:
        bursts = cut_into_bursts(moments, WINDOW, received_at=lambda moment: moment)
        assert [moment for burst in bursts for moment in burst] == sorted(moments)
        assert all(later[0] - earlier[-1] > WINDOW for earlier, later in pairwise(bursts))
        assert all(later - earlier <= WINDOW for burst in bursts for earlier, later in pairwise(burst))


@pytest.mark.parametrize(("minute", "start"), [(0, 0), (4.99, 0), (5, 5), (62, 60), (-1, -5)])
def test_buckets_are_fixed(minute: float, start: float) -> None:
    assert bucket_start(at(minute), 5) == at(start)


class TestAssign:
    def test_the_first_of_its_key_opens_a_group(self) -> None:
        where = assign(at(0), [], WINDOW)
        assert where == Assignment(decision=Decision.NEW, is_current=True)

    @pytest.mark.parametrize("minute", [-60, -1, 0, 10, 70])
    def test_an_alert_within_a_window_on_either_side_joins_the_current_group(self, minute: float) -> None:
        assert assign(at(minute), [span(1, 0, 10, is_current=True)], WINDOW) == Assignment(
            decision=Decision.JOINED, joins=1
        )

    def test_after_the_window_a_new_current_group_follows(self) -> None:
        current = span(1, 0, 10, is_current=True)
        where = assign(at(70.1), [current], WINDOW)
        assert where == Assignment(decision=Decision.WINDOW_EXPIRED, is_current=True, follows=current)

    def test_long_before_the_window_a_group_of_the_past_opens(self) -> None:
        where = assign(at(-60.1), [span(1, 0, 10, is_current=True)], WINDOW)
        assert where == Assignment(decision=Decision.NEW, is_current=False)

    def test_a_late_alert_joins_the_older_group_that_covers_it(self) -> None:
        spans = [span(1, -500, -400), span(2, 0, 10, is_current=True)]
        assert assign(at(-450), spans, WINDOW) == Assignment(decision=Decision.JOINED, joins=1)
        expected = Assignment(decision=Decision.WINDOW_EXPIRED, is_current=False, follows=spans[0])
        assert assign(at(-200), spans, WINDOW) == expected

    def test_an_alert_joins_a_group_resolved_after_it_was_received(self) -> None:
        spans = [
            span(1, 0, 10, status=GroupStatus.RESOLVED, resolved_at=at(20)),
            span(2, 21, 30, is_current=True, began_after=at(20)),
        ]
        assert assign(at(19), spans, WINDOW) == Assignment(decision=Decision.JOINED, joins=1)
        expected = Assignment(decision=Decision.AFTER_RESOLVED, is_current=True, follows=spans[0])
        assert assign(at(20), spans[:1], WINDOW) == expected
        assert assign(at(20.5), spans, WINDOW) == Assignment(decision=Decision.JOINED, joins=2)

    def test_an_alert_past_the_window_does_not_join_a_group_resolved_later(self) -> None:
        resolved = span(1, 0, 10, status=GroupStatus.RESOLVED, resolved_at=at(200))
        expected = Assignment(decision=Decision.WINDOW_EXPIRED, is_current=True, follows=resolved)
        assert assign(at(100), [resolved], WINDOW) == expected

    def test_after_a_resolution_a_new_group_is_a_regression(self) -> None:
        resolved = span(1, 0, 10, status=GroupStatus.RESOLVED, resolved_at=at(20))
        assert assign(at(25), [resolved], WINDOW).decision is Decision.AFTER_RESOLVED

    @pytest.mark.parametrize(("until", "joins"), [(None, True), (at(1_001), True), (at(1_000), False)])
    def test_a_snooze_outlasts_the_window_until_it_ends(self, until: datetime | None, joins: bool) -> None:  # noqa: FBT001 - a column of the table
        snoozed = span(1, 0, 10, is_current=True, status=GroupStatus.SNOOZED, snoozed_until=until)
        where = assign(at(1_000), [snoozed], WINDOW)
        assert where.decision is (Decision.JOINED if joins else Decision.SNOOZE_ENDED)

    @given(st.integers(-5_000, 5_000), st.lists(st.tuples(st.integers(-4_000, 4_000), st.integers(0, 300)), max_size=6))
    def test_a_new_current_group_is_never_older_than_an_existing_group(
        self,
        minute: int,
        extents: list[tuple[int, int]],
    ) -> None:
        spans = [span(n, first, first + length) for n, (first, length) in enumerate(extents)]
        where = assign(at(minute), spans, WINDOW)
        if where.is_current:
            assert all(one.last_seen_at < at(minute) for one in spans)
