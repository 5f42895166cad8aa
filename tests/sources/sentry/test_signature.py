"""Verification of Sentry's signatures and tokens."""

import hashlib
import hmac
import json
from dataclasses import replace

import pytest

from signalcraft.domain.deliveries import Delivery, Secret
from signalcraft.domain.errors import BadSignature
from signalcraft.sources import sentry, verification
from signalcraft.sources.sentry import signature
from signalcraft.sources.sentry.errors import UiComponentRequest
from tests.support.sentry_bodies import RECEIVED_AT, SECRET, SECRETS, body_of, carrying, deliver, sample

GOLDEN_BODY = (
    rb'{"action":"created","installation":{"uuid":"a8e5d37a-696c-4c54-adb5-b3f28d64c7de"},'
    rb'"data":{"issue":{"id":"1","title":"caf\u00e9 \ud83d\udc40"}},'
    rb'"actor":{"type":"application","id":"sentry","name":"Sentry"}}'
)
GOLDEN_SIGNATURE = "c8d5ddae3ce62998be5bb6a05cc828617039dd6693d0b1387cf7e23648b31e00"
EMPTY_SIGNATURE = "cff7ccd625537ce1a726fd29f7fc4beca8a15c96b6c9ee9b9461e149f57d4e88"
INTEGRATION = Secret(name="live", kind="integration", value=SECRET.encode())


def signed(offered: str, body: bytes = GOLDEN_BODY, header: str = "sentry-hook-signature", **more: str) -> Delivery:
    headers = {header: offered, **{name.replace("_", "-"): value for name, value in more.items()}}
    return Delivery(headers=headers, body=body, received_at=RECEIVED_AT)


def is_refused(delivery: Delivery, *secrets: Secret) -> bool:
    try:
        sentry.verify(delivery, secrets or SECRETS)
    except BadSignature:
        return True
    return False


@pytest.mark.parametrize(("body", "expected"), [(GOLDEN_BODY, GOLDEN_SIGNATURE), (b"", EMPTY_SIGNATURE)])
def test_the_golden_vectors_hold(body: bytes, expected: str) -> None:
    assert signature.sign(body, SECRET.encode()) == expected
    assert sentry.verify(signed(expected, body), [INTEGRATION]) is INTEGRATION


@pytest.mark.parametrize(
    "offered",
    [
        "",
        " ",
        GOLDEN_SIGNATURE.upper(),
        GOLDEN_SIGNATURE[:-1],
        GOLDEN_SIGNATURE[:32],
        GOLDEN_SIGNATURE + "0",
        f" {GOLDEN_SIGNATURE}",
        f"{GOLDEN_SIGNATURE}\n",
        f"{GOLDEN_SIGNATURE}, {GOLDEN_SIGNATURE}",
        f"{GOLDEN_SIGNATURE},{EMPTY_SIGNATURE}",
        f"sha256={GOLDEN_SIGNATURE}",
        EMPTY_SIGNATURE,
        hashlib.sha256(GOLDEN_BODY).hexdigest(),
        hmac.new(SECRET.encode(), GOLDEN_BODY, hashlib.sha1).hexdigest(),
        "ü" * 64,
        "\xff" * 32,
        "\ud800" * 64,
        "\x00" * 64,
        "0" * 100_000,
        "None",
    ],
)
def test_anything_but_the_one_signature_is_refused(offered: str) -> None:
    assert is_refused(signed(offered), INTEGRATION)


def test_a_body_with_any_flipped_bit_is_refused() -> None:
    for position in range(len(GOLDEN_BODY)):
        for bit in (0x01, 0x20, 0x80):
            body = bytearray(GOLDEN_BODY)
            body[position] ^= bit
            assert is_refused(signed(GOLDEN_SIGNATURE, bytes(body)), INTEGRATION)


def test_a_body_encoded_again_is_refused() -> None:
    again = json.dumps(json.loads(GOLDEN_BODY)).encode()
    assert is_refused(signed(GOLDEN_SIGNATURE, again), INTEGRATION)
    assert is_refused(signed(GOLDEN_SIGNATURE, GOLDEN_BODY + b"\n"), INTEGRATION)


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_any_of_several_live_secrets_verifies_a_delivery(position: int) -> None:
    secrets = [Secret(name=f"s{number}", kind="integration", value=b"%d" % number) for number in range(4)]
    offered = signature.sign(GOLDEN_BODY, secrets[position].value)
    assert sentry.verify(signed(offered), secrets).name == f"s{position}"


@pytest.mark.parametrize("position", [0, 1, 2, None])
def test_every_secret_is_tried_even_after_a_match(monkeypatch: pytest.MonkeyPatch, position: int | None) -> None:
    tried: list[bytes] = []
    original = signature.sign
    monkeypatch.setattr(signature, "sign", lambda body, secret: tried.append(secret) or original(body, secret))
    secrets = [Secret(name=f"s{number}", kind="integration", value=b"%d" % number) for number in range(3)]
    offered = "0" * 64 if position is None else original(GOLDEN_BODY, secrets[position].value)
    is_refused(signed(offered), *secrets)
    assert tried == [b"0", b"1", b"2"]


def test_without_a_secret_the_same_work_is_done_and_nothing_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []
    original = signature.sign
    monkeypatch.setattr(signature, "sign", lambda body, secret: tried.append(secret) or original(body, secret))
    with pytest.raises(BadSignature):
        sentry.verify(signed(GOLDEN_SIGNATURE), [])
    assert len(tried) == 1


def test_the_placeholder_secret_verifies_nothing() -> None:
    placeholder = verification._PLACEHOLDER.value
    with pytest.raises(BadSignature):
        sentry.verify(signed(signature.sign(GOLDEN_BODY, placeholder)), [])
    with pytest.raises(BadSignature):
        sentry.verify(replace(deliver("legacy.modern"), url_token=placeholder.decode()), [])


@pytest.mark.parametrize("kind", ["integration", "servicehook", "legacy"])
def test_an_empty_secret_matches_nothing(kind: str) -> None:
    empty = Secret(name="empty", kind=kind, value=b"")
    for name in ("event_alert.triggered", "servicehook.triggered", "legacy.modern"):
        unsigned = carrying(body_of(name), like=name)
        headers = {
            header: signature.sign(unsigned.body, b"") if header.endswith("signature") else value
            for header, value in unsigned.headers.items()
        }
        assert is_refused(replace(unsigned, headers=headers, url_token=""), empty)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("event_alert.triggered", "integration"),
        ("servicehook.triggered", "servicehook"),
        ("legacy.modern", "legacy"),
    ],
)
def test_a_secret_verifies_only_its_own_family(name: str, kind: str) -> None:
    assert sentry.verify(deliver(name), SECRETS).kind == kind
    assert is_refused(deliver(name), *[secret for secret in SECRETS if secret.kind != kind])


def test_a_delivery_without_signature_and_token_is_refused() -> None:
    bare = Delivery(headers={}, body=sample().body, received_at=RECEIVED_AT)
    assert is_refused(bare)
    assert is_refused(replace(bare, headers={"sentry-hook-resource": "event_alert"}))


@pytest.mark.parametrize("token", ["", "wrong", SECRET.upper(), SECRET + "x", "ü", "\ud800"])
def test_a_wrong_token_is_refused(token: str) -> None:
    assert is_refused(replace(deliver("legacy.modern"), url_token=token))


@pytest.mark.parametrize("header", ["sentry-hook-signature", "sentry-app-signature", "x-servicehook-signature"])
def test_a_request_with_a_signature_is_never_accepted_by_its_token(header: str) -> None:
    assert is_refused(replace(signed("0" * 64, header=header), url_token=SECRET))
    assert is_refused(replace(signed("", header=header), url_token=SECRET))


def test_a_valid_signature_of_another_family_does_not_replace_an_invalid_one() -> None:
    hook = signature.sign(GOLDEN_BODY, SECRET.encode())
    assert is_refused(signed("0" * 64, x_servicehook_signature=hook, sentry_app_signature=hook))


def test_a_ui_component_request_is_named_only_if_its_signature_is_valid() -> None:
    offered = signed(GOLDEN_SIGNATURE, header="sentry-app-signature")
    with pytest.raises(UiComponentRequest):
        sentry.verify(offered, SECRETS)
    with pytest.raises(UiComponentRequest):
        sentry.verify(signed(EMPTY_SIGNATURE, b"", header="sentry-app-signature"), SECRETS)
    assert is_refused(signed("0" * 64, header="sentry-app-signature"))
    assert is_refused(signed(GOLDEN_SIGNATURE, header="sentry-app-signature", sentry_hook_resource="issue"))


def test_unsigned_headers_do_not_affect_verification() -> None:
    headers = {**deliver().headers, "idempotency-key": "else", "request-id": "else"}
    assert sentry.verify(replace(deliver(), headers=headers), SECRETS).kind == "integration"


def test_secrets_and_headers_stay_out_of_repr() -> None:
    shown = repr((INTEGRATION, deliver(), sample("legacy.modern")))
    assert SECRET not in shown
    assert deliver().headers["sentry-hook-signature"] not in shown
