"""Parse untrusted JSON within bounds: depth, number of values, length of integers, duplicate keys.

Each bound has its error code.
"""

import json
import re
from collections.abc import Mapping
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

#: Senders limit their events to about a dozen levels.
MAX_DEPTH = 64
#: Every value needs a comma or a bracket, so a body with fewer of these holds fewer values.
MAX_VALUES = 1_000_000
#: CPython converts integers of up to about this many digits (``sys.int_info``). Longer literals stay text, …
MAX_INT_DIGITS = 4_000
#: … up to this length. Senders send none of over 20 digits.
MAX_NUMBER = 10_000

_STRING = re.compile(rb'"[^"]*"')
_AS_BRACES = bytes.maketrans(b"[]", b"{}")
_NO_BRACKETS = bytes(set(range(256)) - set(b'{}[]"'))
_NO_COLONS = bytes(set(range(256)) - set(b':"'))


def parse(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in ``raw``.

    Raises:
        BodyNotJson, BodyNotObject: ``raw`` holds no JSON object in UTF-8.
        BodyNumberTooLong, BodyTooDeep, BodyTooManyValues: the object exceeds a bound.
    """
    body = parse_any(raw)
    if isinstance(body, list):
        raise BodyNotObject
    return body


def parse_any(raw: bytes) -> dict[str, Any] | list[Any]:
    """Return the JSON object, or the list, in ``raw``.

    Raises:
        BodyNotJson, BodyNotObject: ``raw`` holds neither in UTF-8.
        BodyNumberTooLong, BodyTooDeep, BodyTooManyValues: it exceeds a bound.
    """
    if len(raw) > MAX_VALUES and raw.count(b",") + raw.count(b"[") + raw.count(b"{") > MAX_VALUES:
        raise BodyTooManyValues
    try:
        body = _loads(raw)
    except RecursionError:
        raise BodyTooDeep from None
    except ValueError:  # includes UnicodeDecodeError and JSONDecodeError
        raise BodyNotJson from None
    if not isinstance(body, dict | list):
        raise BodyNotObject
    return body


def object_of(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the object ``name`` of ``value``; an empty one if there is none."""
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def _loads(raw: bytes) -> object:
    """Parse ``raw`` with orjson, else with Python's own module.

    orjson takes a third of the time, but rejects input that Python's own module accepts and a sender's encoder can
    write: numbers outside the range of a float, halves of surrogate pairs.
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


def check(raw: bytes, body: dict[str, Any] | list[Any]) -> None:
    """Check the bounds that parsing alone does not enforce.

    ``body`` is what was parsed from ``raw``. Only the web process checks: accepted deliveries are always
    processed, and ``parse`` is safe without these bounds.

    Raises:
        BodyTooDeep, BodyDuplicateKey: ``body`` is not within bounds.
    """
    plain = _without_escapes(raw)
    if _is_too_deep(plain):
        raise BodyTooDeep
    if _has_duplicate_key(raw, plain, body):
        raise BodyDuplicateKey


def _is_too_deep(plain: bytes) -> bool:
    """Return whether the JSON in ``plain`` nests over the limit.

    Counting brackets takes a fraction of the time of a walk through the values: remove the strings,
    then the innermost pairs, level by level.
    """
    nesting = _without_strings(plain.translate(_AS_BRACES, _NO_BRACKETS))
    for _ in range(MAX_DEPTH):
        if not nesting:
            return False
        nesting = nesting.replace(b"{}", b"")
    return bool(nesting)


def _without_escapes(raw: bytes) -> bytes:
    """Remove escaped backslashes and quotes: then every quote begins or ends a string.

    An expression over all escapes took 0.2 s of a body of 5 MB, in which no other thread runs.
    """
    return raw.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in raw else raw


def _without_strings(plain: bytes) -> bytes:
    """Remove the strings.

    Empty ones first, since most are empty by now. Two adjacent quotes that are not one string keep the parity.
    """
    return _STRING.sub(b"", plain.replace(b'""', b""))


def _count_keys(plain: bytes) -> int:
    return _without_strings(plain.translate(None, _NO_COLONS)).count(b":")


def _has_duplicate_key(raw: bytes, plain: bytes, body: dict[str, Any] | list[Any]) -> bool:
    """Return whether an object in ``raw`` has a key twice.

    ``body`` is ``raw`` parsed, ``plain`` is ``raw`` without escapes. A compact encoder writes the same bytes as orjson,
    except for texts that are not ASCII and unusual numbers. So a body that encodes to the same bytes has no duplicate
    key; that takes a quarter of the time of parsing it. Any other body has one if it has more keys than ``body``.
    """
    try:
        encoded = orjson.dumps(body)
        return encoded != raw and _count_keys(_without_escapes(encoded)) != _count_keys(plain)
    except orjson.JSONEncodeError:  # an integer or a text that orjson does not support
        pass
    try:
        # Numbers stay text: any length is accepted, and it is fast.
        json.loads(raw, object_pairs_hook=_unless_duplicate, parse_int=str, parse_float=str)
    except _DuplicateKeyError:
        return True
    return False


class _DuplicateKeyError(Exception):
    """Stops the parser at the first duplicate key."""


def _unless_duplicate(pairs: list[tuple[str, object]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise _DuplicateKeyError
