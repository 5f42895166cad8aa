"""JSON of strangers, within bounds: depth, values, length of integers, keys that come twice. Each has its code."""

import json
import re
from typing import Any

import orjson

from signalcraft.domain.errors import (
    BodyDuplicateKey,
    BodyNotJson,
    BodyNotObject,
    BodyNumberTooLong,
    BodyTooDeep,
    BodyTooManyValues,
)

#: Sentry's own normalization keeps an event to a dozen levels or so.
MAX_DEPTH = 64
#: A value takes a comma or a bracket of its own, so a body with fewer of them holds fewer values.
MAX_VALUES = 1_000_000
#: What CPython converts (``sys.int_info``); a longer literal stays text, …
MAX_INT_DIGITS = 4_000
#: … up to this. Sentry sends none of over 20: its ingestion makes floats of them.
MAX_NUMBER = 10_000

_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_STRING = re.compile(rb'"[^"]*"')
_AS_BRACES = bytes.maketrans(b"[]", b"{}")
_NO_BRACKETS = bytes(set(range(256)) - set(b'{}[]"'))


def parse(raw: bytes) -> dict[str, Any]:
    """The JSON object in ``raw``.

    Raises:
        BodyNotJson, BodyNotObject, BodyNumberTooLong, BodyTooDeep, BodyTooManyValues: there is none within bounds.
    """
    if len(raw) > MAX_VALUES and raw.count(b",") + raw.count(b"[") + raw.count(b"{") > MAX_VALUES:
        raise BodyTooManyValues
    try:
        body = _loads(raw)
    except RecursionError:
        raise BodyTooDeep from None
    except ValueError:  # of which UnicodeDecodeError and JSONDecodeError are kinds
        raise BodyNotJson from None
    if not isinstance(body, dict):
        raise BodyNotObject
    return body


def _loads(raw: bytes) -> object:
    """What is in ``raw``.

    orjson takes a third of the time, and refuses some of what Python's own module takes and Sentry's encoder can write:
    numbers that no float holds, halves of surrogate pairs. What it refuses is parsed again.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        source = raw.decode()
    try:
        return json.loads(source)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer of more digits than CPython converts
        return json.loads(source, parse_int=_short_int)


def _short_int(literal: str) -> int | str:
    if len(literal) > MAX_NUMBER:
        raise BodyNumberTooLong
    return int(literal) if len(literal) <= MAX_INT_DIGITS else literal[:20] + "…"


def check(raw: bytes, body: dict[str, Any]) -> None:
    """Whether ``body``, which :func:`parse` made of ``raw``, is within the bounds that parsing alone does not see.

    They are for the door. What was let in is worked off: ``parse`` is safe without them.

    Raises:
        BodyTooDeep, BodyDuplicateKey: it is not.
    """
    if _is_too_deep(raw):
        raise BodyTooDeep
    if _has_duplicate_key(raw, body):
        raise BodyDuplicateKey


def _is_too_deep(raw: bytes) -> bool:
    """Whether the JSON in ``raw`` nests over the limit.

    Told from its brackets, which takes a fraction of a walk through the values: what is in strings goes,
    then the innermost pairs go, level by level.
    """
    # Without escapes every quote begins or ends a string.
    plain = _ESCAPE.sub(b"", raw) if b"\\" in raw else raw
    # Empty strings go first, being most. Where two adjacent quotes are not one string, the parity stays.
    nesting = _STRING.sub(b"", plain.translate(_AS_BRACES, _NO_BRACKETS).replace(b'""', b""))
    for _ in range(MAX_DEPTH):
        if not nesting:
            return False
        nesting = nesting.replace(b"{}", b"")
    return bool(nesting)


def _has_duplicate_key(raw: bytes, body: dict[str, Any]) -> bool:
    """Whether an object in the JSON in ``raw``, of which ``body`` is what was parsed, has a key twice.

    Sentry's encoder writes what orjson would, but for texts that are not ASCII and odd numbers. So a body that comes
    out as it went in, which takes a quarter of the time of parsing it, has none; another is parsed once more.
    """
    try:
        if orjson.dumps(body) == raw:
            return False
    except orjson.JSONEncodeError:  # an integer or a text that orjson does not hold
        pass
    try:
        # Numbers stay text: of any length, and quickly.
        json.loads(raw, object_pairs_hook=_unless_duplicate, parse_int=str, parse_float=str)
    except _DuplicateKeyError:
        return True
    return False


class _DuplicateKeyError(Exception):
    """Ends the parsing: there is nothing more to learn."""


def _unless_duplicate(pairs: list[tuple[str, object]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise _DuplicateKeyError
