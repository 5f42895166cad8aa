"""Whom a large request is from, and how many bytes of each sender are held at most."""

import pytest

from signalcraft.web.server.large_requests import MAX_LARGE_BYTES, HeldBytes, Sender
from signalcraft.web.server.request_buffer import RequestBuffer

LARGEST = 5 * 1024 * 1024


def acme(network: str = "192.0.2.1") -> Sender:
    return Sender(is_delivery=True, name="acme", network=network)


def named(name: str, *, is_delivery: bool = True) -> Sender:
    return Sender(is_delivery=is_delivery, name=name, network="192.0.2.1")


def hold(held: HeldBytes, *senders: Sender) -> int:
    """Hold requests of ``senders`` in turn, while there is room; return how many bytes."""
    size = 0
    for sender in senders * 10:
        if held.has_room(LARGEST, sender):
            held.add(LARGEST, sender)
            size += LARGEST
    return size


@pytest.mark.parametrize(
    ("senders", "most"),
    [
        ([acme()], MAX_LARGE_BYTES // 4),
        ([acme(), acme("192.0.2.2")], MAX_LARGE_BYTES // 2),
        ([acme(f"192.0.2.{number}") for number in range(10)], MAX_LARGE_BYTES // 2),
        ([named(str(number)) for number in range(10)], MAX_LARGE_BYTES),
        ([named("token", is_delivery=False)], MAX_LARGE_BYTES // 8),
        ([named(str(number), is_delivery=False) for number in range(10)], MAX_LARGE_BYTES // 2),
    ],
    ids=["an address", "two of them", "a workspace", "all", "a token", "no deliveries"],
)
def test_an_address_a_workspace_and_requests_that_are_no_deliveries_hold_a_part_each(
    senders: list[Sender], most: int
) -> None:
    assert hold(HeldBytes(), *senders) == most


@pytest.mark.parametrize(
    "others",
    [
        [named("other"), acme("198.51.100.1")],
        [named("other"), *[named(str(number), is_delivery=False) for number in range(10)]],
    ],
    ids=["another workspace and a stranger at its own path", "another workspace and all tokens"],
)
def test_a_workspace_has_its_part_whatever_others_send(others: list[Sender]) -> None:
    held = HeldBytes()
    hold(held, *others)
    assert hold(held, acme()) == MAX_LARGE_BYTES // 4


def test_what_was_released_can_be_held_again_and_nothing_is_remembered() -> None:
    held = HeldBytes()
    for _ in range(2):
        assert hold(held, acme()) == 2 * LARGEST
        held.add(-LARGEST, acme())
        held.add(-LARGEST, acme())
    assert not held._held


def test_a_request_that_is_over_a_bound_alone_has_room() -> None:
    held = HeldBytes()
    assert held.has_room(2 * MAX_LARGE_BYTES, acme())
    held.add(2 * MAX_LARGE_BYTES, acme())
    assert not held.has_room(1, named("other"))


# --- whom a head names


def arrived(request_line: str, *headers: str) -> RequestBuffer:
    buffer = RequestBuffer(None, 0.0, max_body_bytes=10)
    buffer.add("\r\n".join([request_line, "Host: x", *headers, "", "X-SignalCraft-Workspace: body\r\n"]).encode())
    return buffer


@pytest.mark.parametrize(
    ("request_line", "headers"),
    [
        ("POST /webhooks/sentry/acme HTTP/1.1", []),
        ("\r\nPOST /webhooks/grafana/acme/ HTTP/1.1", []),
        ("POST /webhooks/sentry/%61cme?token=1 HTTP/1.1", []),
        ("POST /webhooks/sentry%2Facme#1 HTTP/1.1", []),
        ("POST /webhooks/sentry/acme HTTP/1.1", ["X-SignalCraft-Workspace: other"]),
        ("POST /webhooks/sentry HTTP/1.1", ["X-SignalCraft-Workspace: acme"]),
        ("POST /webhooks/sentry/?token=1 HTTP/1.1", ["x-signalcraft-workspace:acme "]),
    ],
)
def test_a_workspace_is_one_sender_however_a_delivery_names_it(request_line: str, headers: list[str]) -> None:
    assert arrived(request_line, *headers).sender("default") == "acme"


def test_a_delivery_that_names_no_workspace_is_from_the_default_one() -> None:
    assert arrived("POST /webhooks/sentry HTTP/1.1", "Authorization: Bearer x").sender("default") == "default"


def test_other_requests_are_from_their_token() -> None:
    preview = "POST /api/v1/preview HTTP/1.1"
    senders = [
        arrived(preview, f"Authorization: {sent}").sender("default") for sent in ("Bearer a", "bearer  a ", "Bearer b")
    ]
    assert senders[0] == senders[1] != senders[2]
    assert arrived(preview).sender("default") == ""


def test_the_addresses_of_proxies_are_in_their_order() -> None:
    assert arrived("GET / HTTP/1.1").forwarded_for() == []
    header = arrived("GET / HTTP/1.1", "X-Forwarded-For: 192.0.2.1,192.0.2.2", "x-forwarded-for: 2001:db8::1 ")
    assert header.forwarded_for() == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
