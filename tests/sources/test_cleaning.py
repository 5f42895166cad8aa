"""Cleaning of values: text, slugs, environments, levels, times, tags."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalcraft.domain.alerts import ENVIRONMENT_ALIASES, Severity, Vocabulary
from signalcraft.sources import cleaning

FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def is_storable(value: str) -> bool:
    return "\x00" not in value and value == value.encode("utf-8", "replace").decode("utf-8")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("plain", "plain"),
        ("  two  blanks ", "two blanks"),
        ("a\nb\r\nc\td\x0be\x0cf", "a b c d e f"),
        ("nul\x00 in\x00side", "nul inside"),
        ("bell\x07 esc\x1b[31m del\x7f c1\x9b", "bell esc[31m del c1"),
        ("lone \ud83d surrogate", "lone \ufffd surrogate"),
        ("\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), "\U0001f600"),
        ("<b>bold</b> & <script>", "<b>bold</b> & <script>"),
        ("no-break\xa0blank\u3000wide", "no-break blank wide"),
        ("\x00\x01", None),
        ("   ", None),
        ("", None),
        (None, None),
        (7, None),
        (["a"], None),
    ],
)
def test_a_line_is_one_line_of_printable_text(sent: object, kept: str | None) -> None:
    assert cleaning.line(sent, 100) == kept


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("one\ntwo\tthree", "one\ntwo\tthree"),
        ("one\r\ntwo", "one\ntwo"),
        ("\n  indented\n", "indented"),
        ("a\x00b\x08c", "abc"),
        ("lone \udcff", "lone \ufffd"),
        ("<i>html</i>", "<i>html</i>"),
        (" \n ", None),
        (None, None),
        ({}, None),
    ],
)
def test_a_text_keeps_its_lines(sent: object, kept: str | None) -> None:
    assert cleaning.text(sent, 100) == kept


@pytest.mark.parametrize(
    ("sent", "limit", "kept"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abcde…"),
        ("\U0001f600" * 10, 4, "\U0001f600\U0001f600\U0001f600…"),
        ("abcde\u0301\u0302x", 6, "abcd…"),
        (f"ab{FAMILY}cd", 6, "ab…"),
        (f"abc{FAMILY}", 5, "abc…"),
        ("abcd efg", 6, "abcd…"),
        ("e" + "\u0301" * 50, 10, "…"),
    ],
)
def test_a_cut_falls_between_characters_and_ends_in_an_ellipsis(sent: str, limit: int, kept: str) -> None:
    assert cleaning.cut(sent, limit) == kept
    assert cleaning.line(sent, limit) == kept
    assert cleaning.text(sent, limit) == kept


def test_a_text_of_megabytes_is_cut_quickly() -> None:
    assert cleaning.text("x" * 5_000_000, 8_000) == "x" * 7_999 + "…"
    assert cleaning.line("\x00" * 5_000_000, 500) == "…"


@given(st.text(st.characters(), max_size=60), st.integers(1, 40))
def test_every_result_is_storable_and_short(sent: str, limit: int) -> None:
    for kept in (cleaning.line(sent, limit), cleaning.text(sent, limit)):
        assert kept is None or (0 < len(kept) <= limit and is_storable(kept))


@given(st.text(st.characters(), max_size=60))
def test_cleaning_a_line_twice_changes_nothing(sent: str) -> None:
    once = cleaning.line(sent, 40)
    assert once is None or cleaning.line(once, 40) == once


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("123", "123"),
        (123, "123"),
        (4509877862268928, "4509877862268928"),
        (0, "0"),
        ("a-b_C9", "a-b_C9"),
        ("x" * 64, "x" * 64),
        ("x" * 65, None),
        (-1, None),
        (2**63, None),
        (10**400, None),
        (True, None),
        (1.0, None),
        (math.nan, None),
        ("", None),
        ("1\n", None),
        ("\u0661", None),
        ("a b", None),
        ("1;2", None),
        (None, None),
        ([1], None),
    ],
)
def test_an_id_is_plain_or_none(sent: object, kept: str | None) -> None:
    assert cleaning.identifier(sent) == kept


@pytest.mark.parametrize(
    ("sent", "kept", "was_odd"),
    [
        ("checkout", "checkout", False),
        (" CheckOut ", "checkout", False),
        ("a.b_c-9", "a.b_c-9", False),
        ("My Shop!", "my-shop", True),
        ("caf\u00e9", "caf", True),
        ("x" * 101, "x" * 100, True),
        ("\u0130" * 90, "i" + "-i" * 89, True),
        ("!!!", "", True),
        ("", "", True),
        (None, "", False),
        (7, "", False),
    ],
)
def test_a_slug_is_cleaned_to_what_sentry_allows(sent: object, kept: str, was_odd: bool) -> None:  # noqa: FBT001 - a column of the table
    assert cleaning.slug(sent) == (kept[:100], was_odd)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("Production", "production"),
        (" eu  west 1 ", "eu-west-1"),
        ("a\nb", "a-b"),
        ("Ünit", "ünit"),
        ("\x00", None),
        ("", None),
        (None, None),
        (5, None),
        ([], None),
    ],
)
def test_an_environment_is_lower_case_without_blanks(sent: object, kept: str | None) -> None:
    assert cleaning.environment(sent) == kept


@pytest.mark.parametrize(("alias", "ours"), ENVIRONMENT_ALIASES.items())
def test_every_alias_is_known(alias: str, ours: str) -> None:
    assert cleaning.canonical_environment(alias, Vocabulary()) == (ours, True)
    assert cleaning.canonical_environment(ours, Vocabulary()) == (ours, True)


def test_a_workspace_has_its_own_aliases() -> None:
    vocabulary = Vocabulary(default_environment="green", environment_aliases={"blue": "canary"})
    assert cleaning.canonical_environment("blue", vocabulary) == ("canary", True)
    assert cleaning.canonical_environment("green", vocabulary) == ("green", True)
    assert cleaning.canonical_environment("production", vocabulary) == ("production", False)


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("fatal", Severity.CRITICAL),
        ("error", Severity.HIGH),
        ("warning", Severity.MED),
        ("info", Severity.LOW),
        ("debug", Severity.INFO),
        ("sample", Severity.INFO),
        ("critical", Severity.CRITICAL),
        ("warn", Severity.MED),
        ("log", Severity.LOW),
        (" ERROR ", Severity.HIGH),
        (0, Severity.INFO),
        (10, Severity.INFO),
        (20, Severity.LOW),
        (30, Severity.MED),
        (40, Severity.HIGH),
        (50, Severity.CRITICAL),
        (40.0, Severity.HIGH),
        ("50", Severity.CRITICAL),
        ("unknown", None),
        ("loud", None),
        (45, None),
        (-10, None),
        ("45", None),
        ("9" * 5_000, None),
        ("²", None),
        (True, None),
        (math.nan, None),
        (math.inf, None),
        (10**400, None),
        ("", None),
        (None, None),
        ([], None),
        ({}, None),
    ],
)
def test_a_level_by_name_or_number_is_a_severity(sent: object, meant: Severity | None) -> None:
    assert cleaning.severity(sent) is meant


MOMENT = datetime(2026, 3, 1, 12, 0, 0, 250000, tzinfo=UTC)
WHOLE = MOMENT.replace(microsecond=0)


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("2026-03-01T12:00:00.250000Z", MOMENT),
        ("2026-03-01T12:00:00.250000+00:00", MOMENT),
        ("2026-03-01T12:00:00.25Z", MOMENT),
        ("2026-03-01T12:00:00Z", WHOLE),
        ("2026-03-01T12:00:00+00:00", WHOLE),
        ("2026-03-01T14:00:00+02:00", WHOLE),
        ("2026-03-01T07:30:00-04:30", WHOLE),
        ("2026-03-01 12:00:00", WHOLE),
        ("2026-03-01T12:00:00", WHOLE),
        ("2026-03-01", WHOLE.replace(hour=0)),
        (WHOLE.timestamp(), WHOLE),
        (MOMENT.timestamp(), MOMENT),
        (int(WHOLE.timestamp()), WHOLE),
        (int(MOMENT.timestamp() * 1_000), MOMENT),
        (int(MOMENT.timestamp() * 1_000_000), MOMENT),
        (int(MOMENT.timestamp() * 1_000_000_000), MOMENT),
        (str(MOMENT.timestamp()), MOMENT),
        (str(int(WHOLE.timestamp())), WHOLE),
        ("1999-12-31T23:59:59Z", None),
        ("2101-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("2026-02-30T00:00:00Z", None),
        ("2026-03-01T25:00:00Z", None),
        ("yesterday", None),
        ("", None),
        (0, None),
        (-1, None),
        (1e300, None),
        (10**400, None),
        (-(10**400), None),
        (math.nan, None),
        (math.inf, None),
        (-math.inf, None),
        (True, None),
        (None, None),
        ([], None),
        ("\ud800", None),
        ("9" * 19, None),
        ("\u0661\u0662", None),
    ],
)
def test_a_time_in_any_format_is_aware_utc(sent: object, meant: datetime | None) -> None:
    got = cleaning.time(sent)
    assert got == meant
    assert got is None or got.tzinfo is UTC


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (5, 5),
        ("41", 41),
        ("0", 0),
        (2**63 - 1, 2**63 - 1),
        (2**63, None),
        (str(2**63), None),
        ("9" * 5000, None),
        (-1, None),
        ("-1", None),
        (1.5, None),
        (True, None),
        ("", None),
        (None, None),
    ],
)
def test_a_count_fits_a_bigint(sent: object, kept: int | None) -> None:
    assert cleaning.count(sent) == kept


@pytest.mark.parametrize(
    ("sent", "kept", "incomplete"),
    [
        (None, [], False),
        ([], [], False),
        ({}, [], False),
        ([["a", "b"], ["c", "d"]], [("a", "b"), ("c", "d")], False),
        ([{"key": "a", "value": "b"}], [("a", "b")], False),
        ([{"key": "a", "value": "b", "query": "x"}, ["c", "d"]], [("a", "b"), ("c", "d")], False),
        ({"a": "b", "c": 1}, [("a", "b"), ("c", "1")], False),
        ([["sentry:release", "1.0"], ["sentry:user", "id:1"]], [("release", "1.0"), ("user", "id:1")], False),
        ([["a", "1"], ["a", "2"], ["a", "1"]], [("a", "1"), ("a", "2"), ("a", "1")], False),
        ([["a", None]], [("a", "")], False),
        ([["a", True], ["b", 1.5], ["c", 7]], [("a", "true"), ("b", "1.5"), ("c", "7")], False),
        ([["a", {"x": [1]}], ["b", math.nan]], [("a", '{"x": [1]}'), ("b", "NaN")], False),
        ([["a", "v" * 300]], [("a", "v" * 199 + "…")], False),
        ([["k" * 300, "v"]], [("k" * 199 + "…", "v")], False),
        ([["a\x00b", "c\x00\nd"]], [("ab", "c d")], False),
        ([None, ["a", "b"]], [("a", "b")], True),
        ([[None, "b"], ["", "b"], ["sentry:", "b"], [7, "b"]], [], True),
        ([["a"], ["a", "b", "c"], "ab", 7, {}], [], True),
        ([["t", "v"]] * 600, [("t", "v")] * 500, True),
        ("a=b", [], True),
        (7, [], True),
        (True, [], True),
    ],
)
def test_tags_in_any_shape_are_pairs(sent: object, kept: list[tuple[str, str]], incomplete: bool) -> None:  # noqa: FBT001 - a column of the table
    assert cleaning.tags(sent, prefix="sentry:") == (kept, incomplete)


def test_a_tag_that_nests_beyond_recursion_is_kept_without_its_value() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert cleaning.tags([["deep", deep], ["a", "b"]]) == ([("deep", "…"), ("a", "b")], False)


@given(ANYTHING)
def test_no_value_makes_a_function_raise(value: object) -> None:
    assert cleaning.line(value, 9) is None or isinstance(value, str)
    assert cleaning.text(value, 9) is None or isinstance(value, str)
    assert cleaning.severity(value) in {None, *Severity}
    moment = cleaning.time(value)
    assert moment is None or 2000 <= moment.year <= 2100
    assert all(is_storable(text) for pair in cleaning.tags(value, prefix="sentry:")[0] for text in pair)
    cleaning.identifier(value)
    cleaning.environment(value)
    cleaning.slug(value)
    cleaning.count(value)
