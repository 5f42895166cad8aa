"""Masking of what varies between two occurrences of one problem."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalcraft.sources.masking import mask

ALIKE = [
    ("blocked. (4g8hXn02sfzZywjG)", "blocked. (9k2pQr77abcXyZtu)"),
    ("order 17 failed", "order 290 failed"),
    ("took 5.0 s", "took 12 s"),
    ("at 0x7f41", "at 0xdead"),
    ("trace deadbeef", "trace 0123456789abcdef"),
    ("job 3b9f4c1d-2e8a-4756-9c0d-1f2e3a4b5c6d", "job AAAAAAAA-2e8a-4757-9c0d-ffffffffffff"),
    ("no route to 10.0.0.5:9000", "no route to 192.168.7.1:80"),
    ("no route to 10.0.0.5", "no route to 2001:db8::8a2e:370:7334"),
    ("db-7.internal:5432 refused", "db-12.internal:6432 refused"),
    ("app.js:12:34", "app.js:7:1"),
    ("since 2026-03-01T12:00:03.250Z", "since 2026-11-28 07:49:01"),
    ("since Mon, 02 Mar 2026 12:00:03", "since Sunday, 29 November 2026 1:02"),
    ("mira@customer.example is unknown", "j.doe+x@mail.other.example is unknown"),
    ("no column 'price'", "no column 'unit price'"),
    ("GET https://a.example/users/17?page=3 failed", "GET https://a.example/users/18?sort=name&page=1 failed"),
    ("bad token eyJhbGciOiJIUzI1NiJ9", "bad token 01ARZ3NDEKTSV4RRFFQ69G5FAV"),
]
APART = [
    ("md5 mismatch", "sha256 mismatch"),
    ("utf8 expected", "latin1 expected"),
    ("s3 is down", "ec2 is down"),
    ("oauth2 failed", "http2 failed"),
    ("worker12 died", "scheduler12 died"),
    ("Base64Encoder failed", "Base64Decoder failed"),
    ("Utf8Base64Encoder failed", "Utf8Base64Decoder failed"),
    ("x509certificate expired", "x509authority expired"),
    ("feedback failed", "order failed"),
    ("v1alpha1 is gone", "v1beta1 is gone"),
    ("GET https://a.example/users/17", "GET https://a.example/orders/17"),
    ("GET https://a.example/", "GET https://b.example/"),
    ("db.internal:5432 refused", "cache.internal:5432 refused"),
    ("app.js:12:34", "shop.js:12:34"),
    ("decade2024 is over", "cafe2024 is over"),
    ("don't open 'x'", "don't close 'x'"),
    ("std::add failed", "std::bad failed"),
    ("May I? No", "May I? Yes"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_texts_that_differ_in_what_varies_are_masked_alike(one: str, other: str) -> None:
    assert mask(one) == mask(other)


@pytest.mark.parametrize(("one", "other"), APART)
def test_texts_that_differ_in_words_stay_apart(one: str, other: str) -> None:
    assert mask(one) != mask(other)


PIECES = st.sampled_from(
    ["'", '"', "`", "#", "?", "=", "@", ".", ":", "::", "-", "_", " ", "a", "deadbeef", "cafe", "g", "x7", "9", "é",
     "2026-03-01", "12:30", "T", "Mon, ", "1 jan 2026", "fe80::1", "x@y.z", "?a=b", "K", "\u0660", "\u017f", "\u2161"]
)  # fmt: skip


@settings(max_examples=3_000, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=40))
def test_masking_twice_is_masking_once_and_leaves_no_digit(text: str) -> None:
    masked = mask(text)
    assert mask(masked) == masked
    assert not any(character.isdecimal() for character in masked)


ADVERSARIAL = (
    "a|f|1|'|'a |?|?a|a@|a.|x@y.|a-|1.|12:|f:|::1 |mon |jan |1 jan |2026-01-01|deadbeef-|#|é1|ab1|aB1|'\"`|a=?|+|0x|_1"
)


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


@pytest.mark.parametrize("piece", ADVERSARIAL.split("|"))
def test_the_time_is_linear_in_the_length(piece: str) -> None:
    short, long = ((piece * size)[:size] for size in (65_536, 131_072))
    for _ in range(5):
        once, twice = (min(seconds(lambda text=text: mask(text)) for _ in range(3)) for text in (short, long))
        if twice <= 2.5 * max(once, 0.001):
            return
    pytest.fail(f"{once:.4f} s, and {twice:.4f} s for twice the length")
