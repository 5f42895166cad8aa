"""Untrusted JSON: invalid input, and input beyond each bound."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalcraft.domain import bounded_json
from signalcraft.domain.errors import (
    BodyDuplicateKey,
    BodyNotJson,
    BodyNotObject,
    BodyNumberTooLong,
    BodyTooDeep,
    BodyTooManyValues,
    Refusal,
)
from signalcraft.sources.sentry import samples


def read(raw: bytes) -> dict[str, object]:
    body = bounded_json.parse(raw)
    bounded_json.check(raw, body)
    return body


def refusal(raw: bytes) -> type[Refusal]:
    with pytest.raises(Refusal) as caught:
        read(raw)
    return caught.type


def holding(part: bytes) -> bytes:
    """A body that a source could send, with ``part`` inside."""
    return b'{"action":"created","data":{"text":"\\"[{","x":' + part + b"}}"


@pytest.mark.parametrize("name", samples.NAMES)
def test_what_sentry_sends_is_within_bounds(name: str) -> None:
    raw = samples.build(name, secret="s").body
    assert read(raw) == json.loads(raw)


@pytest.mark.parametrize(
    "raw",
    [b"", b" ", b"{", b"nul", b"{'a':1}", b'{"a":1}x', b'{"a":1,}', b'{"a":"\xff"}', b'\xef\xbb\xbf{"a":1}', b"\x00"],
)
def test_invalid_json_is_refused(raw: bytes) -> None:
    assert refusal(raw) is BodyNotJson


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le"])
def test_json_in_another_encoding_is_refused(encoding: str) -> None:
    assert refusal(json.dumps({"action": "created", "data": {}}).encode(encoding)) is BodyNotJson


@pytest.mark.parametrize("raw", [b"[]", b"null", b"1", b'"text"', b"true", b"NaN", b"1" * 5000, b"-1e999"])
def test_json_other_than_an_object_is_refused(raw: bytes) -> None:
    assert refusal(raw) is BodyNotObject


# Depth.


def nested(levels: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """A complete body with ``levels`` levels, two of which are from ``holding``."""
    return holding(opening * (levels - 2) + b"1" * (opening == b'{"a":') + closing * (levels - 2))


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_is_bounded_to_the_level(opening: bytes, closing: bytes) -> None:
    assert read(nested(bounded_json.MAX_DEPTH, opening, closing))
    assert refusal(nested(bounded_json.MAX_DEPTH + 1, opening, closing)) is BodyTooDeep


@pytest.mark.parametrize("levels", [66, 500, 900, 990, 1_000, 100_000, 1_000_000])
def test_absurd_nesting_is_refused_fast(levels: int) -> None:
    raw = nested(levels)
    began = time.thread_time()  # other work of the machine does not count
    assert refusal(raw) is (BodyTooManyValues if levels >= bounded_json.MAX_VALUES else BodyTooDeep)
    assert time.thread_time() - began < 1


@pytest.mark.parametrize("escape", [b"\\n", b"\\/", b'\\"', b"\\\\", b"\\u0041"])
def test_a_large_body_of_escapes_is_checked_about_as_fast_as_it_is_parsed(escape: bytes) -> None:
    raw = b'{"a":"' + escape * (4_000_000 // len(escape)) + b'"}'
    began = time.thread_time()  # threads of earlier tests do not count
    body = bounded_json.parse(raw)
    parsed = time.thread_time()
    bounded_json.check(raw, body)
    assert time.thread_time() - parsed < 8 * (parsed - began), "an expression over the escapes took twenty times that"


@pytest.mark.parametrize("text", ["[[[[{{{{", "]]]]", '"[', "\\", "\\\\", '\\"[{', "\\\\\\", "\n[", "é[\ud83d\udc40]"])
def test_brackets_in_texts_are_not_nesting(text: str) -> None:
    body = {"a": [text * 200, {text: [text, ""], "": text}], "b": text}
    assert read(json.dumps(body).encode())
    assert read(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))


def test_closing_brackets_in_texts_do_not_hide_nesting() -> None:
    body: object = "x"
    for _ in range(80):
        body = ["]", body, "[", "\\"]
    assert refusal(json.dumps({"a": body}).encode()) is BodyTooDeep


# Values.


def test_too_many_values_are_refused_before_they_are_parsed() -> None:
    assert refusal(holding(b"[" + b"0," * bounded_json.MAX_VALUES + b"0]")) is BodyTooManyValues
    assert refusal(b"[" * (bounded_json.MAX_VALUES + 1) + b"no json") is BodyTooManyValues
    assert read(holding(b'"' + b"x" * (2 * bounded_json.MAX_VALUES) + b'"'))


# Numbers.


@pytest.mark.parametrize(
    "literal",
    ["9" * 5_000, "-" + "9" * (bounded_json.MAX_NUMBER - 1), "NaN", "Infinity", "-Infinity", "1e999", "1E-999"],
)
def test_numbers_that_python_cannot_represent_are_accepted(literal: str) -> None:
    assert read(holding(literal.encode()))


def test_an_integer_of_too_many_digits_is_refused() -> None:
    assert refusal(holding(b"9" * (bounded_json.MAX_NUMBER + 1))) is BodyNumberTooLong


# Keys.


@pytest.mark.parametrize(
    "part",
    [
        b'{"a":1,"a":1}',
        b'[[{"b":[{"a":{},"c":1,"a":{}}]}]]',
        b'{"a":1,"\\u0061":2}',
        b'{"\\ud83d\\udc40":1,"\xf0\x9f\x91\x80":2}',
        b'{"":1,"":2}',
        b'{ "a" : 1 , "a" : 2 }',
        b'{"a":1e999,"a":NaN}',
        b'{"\\ud83d":1,"\\ud83d":2}',
        b'{"a":' + b"9" * 5_000 + b',"a":1}',
        b'{"x":"\\u0022:","a":1,"a":2}',
    ],
)
def test_a_duplicate_key_is_refused_at_any_depth_and_in_any_encoding(part: bytes) -> None:
    assert refusal(holding(part)) is BodyDuplicateKey


@pytest.mark.parametrize(
    "part",
    [
        b'[{"a":1},{"a":1}]',
        b'{"a":{"a":{"a":1}}}',
        b'{"a":1,"A":2,"a ":3,"\\u00e4":4,"a\\u0308":5}',
        b'"\\"a\\":1,\\"a\\":1"',
        b'{ "a" : "a" ,\n"b" : "a" }',
        b'{"a":1.10,"b":1E5,"c":' + b"9" * 30 + b"}",
        b'{"\\ud83d":1,"\\ud83e":2}',
    ],
)
def test_the_same_key_in_two_objects_is_no_duplicate(part: bytes) -> None:
    assert read(holding(part))


class Pairs(tuple[tuple[str, object], ...]):
    """A JSON object as written, possibly with a duplicate key."""

    __slots__ = ()


def written(value: object) -> str:
    match value:
        case Pairs():
            return "{" + ",".join(f"{json.dumps(key)}:{written(inside)}" for key, inside in value) + "}"
        case list():
            return "[" + ",".join(map(written, value)) + "]"
        case _:
            return json.dumps(value)


def has_a_key_twice(value: object) -> bool:
    match value:
        case Pairs():
            twice = len({key for key, _ in value}) < len(value)
            return twice or any(has_a_key_twice(inside) for _, inside in value)
        case list():
            return any(map(has_a_key_twice, value))
        case _:
            return False


def containers(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    pairs = st.lists(st.tuples(st.text(alphabet='a":\\ä', max_size=2), inner), max_size=4)
    return st.lists(inner, max_size=3) | pairs.map(Pairs)


@given(st.recursive(st.integers() | st.text(max_size=3), containers))
def test_exactly_the_objects_with_a_duplicate_key_are_found(value: object) -> None:
    raw = holding(written(value).encode())
    if has_a_key_twice(value):
        assert refusal(raw) is BodyDuplicateKey
    else:
        assert read(raw) == json.loads(raw)
