"""Routes: which of them match, and when what they tell of is due."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from signalcraft.domain.alerts import Severity
from signalcraft.notify.routes import Hours, Match, Route, Subject, never_deciding, select

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


@pytest.mark.parametrize(
    ("earlier", "later", "why"),
    [
        (Match(), Match(project=("pay",)), "never reached"),
        (Match(project=("pay*",)), Match(project=("pay-*", "PAY"), severity_min=Severity.HIGH), "never reached"),
        (Match(severity_min=Severity.INFO), Match(), "never reached"),
        (Match(environment=("!dev",)), Match(environment=("!dev", "!test")), "never reached"),
        (Match(tags={"team": ("*",)}), Match(tags={"team": ("core",)}), "never reached"),
        (Match(project=("pay*",)), Match(project=("pay", "web")), None),
        (Match(severity_min=Severity.HIGH), Match(), None),
        (Match(environment=("!dev",)), Match(environment=("!test",)), None),
        (Match(tags={"team": ("*",)}), Match(), None),
        (Match(project=("web",)), Match(project=("pay", "!p*")), "never match"),
        (Match(project=("web",)), Match(workspace=("!*",)), "never match"),
    ],
)
def test_a_route_that_can_never_decide_is_named_with_the_reason(earlier: Match, later: Match, why: str | None) -> None:
    routes = [
        Route(name="other", to=("a",), match=Match(source=("other",))),
        Route(name="earlier", to=("a",), match=earlier),
        Route(name="later", to=("a",), match=later),
    ]
    found = {route.name: reason for route, reason in never_deciding(routes)}
    assert list(found) == (["later"] if why else [])
    assert (why or "") in found.get("later", "")
    routes[1] = Route(name="earlier", to=("a",), match=earlier, go_on=True)
    assert bool(list(never_deciding(routes))) == (why == "never match")


def test_what_is_said_to_cover_another_condition_matches_each_value_that_the_other_does() -> None:
    patterns = ("a", "ab", "a*", "*b", "?", "[ab]", "*", "!a", "!*b")
    subjects = [replace(SUBJECT, project=project) for project in ("", "a", "b", "ab", "ba", "*", "?")]
    matches = [Match(project=each) for each in ((), *product(patterns), *product(patterns, repeat=2))]
    met = [[match.mismatch(subject) is None for subject in subjects] for match in matches]
    for (wide, met_wide), (narrow, met_narrow) in product(zip(matches, met, strict=True), repeat=2):
        if wide.covers(narrow):
            assert all(is_wide or not is_narrow for is_wide, is_narrow in zip(met_wide, met_narrow, strict=True))
    assert not any(any(met_here) for match, met_here in zip(matches, met, strict=True) if match.is_impossible)
