"""Routes: which of them match, and when what they tell of is due."""

from datetime import UTC, datetime, timedelta

import pytest

from signalcraft.domain.alerts import Severity
from signalcraft.notify.routes import Hours, Match, Route, Subject, select

SUBJECT = Subject(
    workspace="default",
    source="sentry",
    project="Payments",
    environment="prod",
    severity=Severity.HIGH,
    tags=[("team", "pay"), ("team", "core"), ("region", "eu")],
)


@pytest.mark.parametrize(
    ("match", "mismatch"),
    [
        (Match(), None),
        (Match(project=("pay*",)), None),
        (Match(project=("PAYMENTS",)), None),
        (Match(project=("pay",)), "project is Payments, not pay"),
        (Match(project=("api", "p?yments")), None),
        (Match(project=("!web",)), None),
        (Match(project=("!pay*",)), "project is Payments, not !pay*"),
        (Match(project=("pay*", "!*ments")), "project is Payments, not pay* or !*ments"),
        (Match(project=("pay.*",)), "project is Payments, not pay.*"),
        (Match(workspace=("second",)), "workspace is default, not second"),
        (Match(source=("sentry",), environment=("prod",)), None),
        (Match(environment=("!prod",)), "environment is prod, not !prod"),
        (Match(severity_min=Severity.HIGH), None),
        (Match(severity_min=Severity.MED), None),
        (Match(severity_min=Severity.CRITICAL), "severity is high, under critical"),
        (Match(tags={"team": ("pay",)}), None),
        (Match(tags={"team": ("core",), "region": ("e*",)}), None),
        (Match(tags={"team": ("web",)}), "tag team is pay or core, not web"),
        (Match(tags={"team": ("!core",)}), "tag team is pay or core, not !core"),
        (Match(tags={"missing": ("*",)}), "tag missing is missing, not *"),
        (Match(tags={"missing": ("!x",)}), None),
    ],
)
def test_a_route_says_which_condition_is_not_met(match: Match, mismatch: str | None) -> None:
    assert match.mismatch(SUBJECT) == mismatch


def test_the_first_route_that_matches_decides_unless_it_goes_on() -> None:
    routes = [
        Route(name="other", to=("x",), match=Match(project=("other",))),
        Route(name="first", to=("a",), go_on=True),
        Route(name="second", to=("b",)),
        Route(name="third", to=("c",)),
    ]
    assert [route.name for route in select(routes, SUBJECT)] == ["first", "second"]
    assert list(select(routes[:1], SUBJECT)) == []


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("hours", "happened", "due"),
    [
        ("mon-fri 08:00-18:00", "2026-03-02T08:00Z", "2026-03-02T08:00Z"),
        ("mon-fri 08:00-18:00", "2026-03-02T07:59Z", "2026-03-02T08:00Z"),
        ("mon-fri 08:00-18:00", "2026-03-02T18:00Z", "2026-03-03T08:00Z"),
        ("mon-fri 08:00-18:00", "2026-03-06T20:00Z", "2026-03-09T08:00Z"),
        ("sat 10:00-11:00", "2026-03-07T11:00Z", "2026-03-14T10:00Z"),
        ("fri-mon 10:00-11:00", "2026-03-08T09:00Z", "2026-03-08T10:00Z"),
        ("22:00-06:00", "2026-03-02T23:00Z", "2026-03-02T23:00Z"),
        ("22:00-06:00", "2026-03-02T05:59Z", "2026-03-02T05:59Z"),
        ("22:00-06:00", "2026-03-02T06:00Z", "2026-03-02T22:00Z"),
        ("fri 22:00-06:00", "2026-03-07T03:00Z", "2026-03-07T03:00Z"),
        ("fri 22:00-06:00", "2026-03-06T03:00Z", "2026-03-06T22:00Z"),
        ("08:00-18:00 Europe/Berlin", "2026-01-15T06:00Z", "2026-01-15T07:00Z"),
        ("08:00-18:00 Europe/Berlin", "2026-07-15T05:00Z", "2026-07-15T06:00Z"),
        ("08:00-18:00 Europe/Berlin", "2026-03-28T20:00Z", "2026-03-29T06:00Z"),  # the clock goes forward that night
        ("08:00-18:00 Europe/Berlin", "2026-10-24T20:00Z", "2026-10-25T07:00Z"),  # and back
        ("02:30-03:30 Europe/Berlin", "2026-03-29T00:00Z", "2026-03-29T01:30Z"),  # 02:30 does not exist: 03:30 summer
        ("08:00-18:00 Asia/Kolkata", "2026-03-02T01:00Z", "2026-03-02T02:30Z"),
        ("mon 08:00-18:00 Pacific/Auckland", "2026-03-01T18:00Z", "2026-03-01T19:00Z"),
    ],
)
def test_outside_its_hours_a_route_tells_at_the_next_opening(hours: str, happened: str, due: str) -> None:
    route = Route(name="all", to=("a",), hours=Hours.parse(hours))
    assert route.due_at(moment(happened)) == moment(due)


def test_the_wait_counts_before_the_hours() -> None:
    route = Route(name="all", to=("a",), wait=timedelta(minutes=5), hours=Hours.parse("08:00-18:00"))
    assert route.due_at(moment("2026-03-02T17:54Z")) == moment("2026-03-02T17:59Z")
    assert route.due_at(moment("2026-03-02T17:56Z")) == moment("2026-03-03T08:00Z")
