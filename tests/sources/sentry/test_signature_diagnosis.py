"""What ``doctor --delivery`` reports of a signature, by golden vectors of Sentry's own scheme."""

import json

import pytest

from signalcraft.domain.deliveries import Secret
from signalcraft.sources.diagnosis import Candidate, Verdict
from signalcraft.sources.sentry import samples
from signalcraft.sources.sentry.signature import sign
from signalcraft.sources.sentry.signature_diagnosis import diagnose

SECRET = b"test-client-secret"
BODY = (
    rb'{"action":"created","installation":{"uuid":"a8e5d37a-696c-4c54-adb5-b3f28d64c7de"},"data":{"issue":{"id":"1",'
    rb'"title":"caf\u00e9 \ud83d\udc40"}},"actor":{"type":"application","id":"sentry","name":"Sentry"}}'
)
GOLDEN = "c8d5ddae3ce62998be5bb6a05cc828617039dd6693d0b1387cf7e23648b31e00"


def candidate(value: bytes = SECRET, *, kind: str = "integration", retired: bool = False) -> Candidate:
    return Candidate(secret=Secret(name="main", kind=kind, value=value), retired=retired)


def test_a_secret_of_another_workspace_is_named_with_it_and_one_of_the_workspace_comes_first() -> None:
    other = Candidate(secret=Secret(name="theirs", kind="integration", value=SECRET), other_workspace="acme")
    found = diagnose(BODY, GOLDEN, [candidate(b"of no use"), other])
    assert found.verdict is Verdict.OTHER_WORKSPACE
    assert "theirs of the workspace acme" in found.says
    assert "/acme" in found.advice
    assert verdict(BODY, GOLDEN, other, candidate()) is Verdict.GOOD
    assert verdict(BODY, GOLDEN, other, candidate(retired=True)) is Verdict.RETIRED
    assert "of the workspace acme" in diagnose(BODY + b"\n", GOLDEN, [other]).says


def verdict(body: bytes, signature: str, *candidates: Candidate) -> Verdict:
    return diagnose(body, signature, candidates or [candidate()]).verdict


@pytest.mark.parametrize("signature", [GOLDEN, f"Sentry-Hook-Signature: {GOLDEN}", f" sentry-hook-signature:{GOLDEN} "])
def test_a_good_signature_is_good(signature: str) -> None:
    found = diagnose(BODY, signature, [candidate(b"other"), candidate()])
    assert (found.verdict, "main signed it" in found.says) == (Verdict.GOOD, True)


VALUE = json.loads(BODY)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(VALUE).encode(),
        json.dumps(VALUE, ensure_ascii=False).encode(),
        json.dumps(VALUE, ensure_ascii=False, separators=(",", ":")).encode(),
        json.dumps(VALUE, indent=2).encode(),
        BODY + b"\n",
        BODY + b"\r\n",
        b"\xef\xbb\xbf" + BODY,
    ],
    ids=["blanks", "UTF-8 and blanks", "UTF-8", "indented", "newline", "Windows newline", "byte order mark"],
)
def test_a_re_encoded_body_is_recognized(body: bytes) -> None:
    found = diagnose(body, GOLDEN, [candidate()])
    assert found.verdict is Verdict.RE_ENCODED
    assert "main signed it" in found.says


def test_a_body_signed_with_blanks_and_made_compact_is_recognized_too() -> None:
    assert verdict(BODY, sign(json.dumps(VALUE).encode(), SECRET)) is Verdict.RE_ENCODED


def test_an_unverified_body_that_sentry_would_not_write_looks_re_encoded() -> None:
    assert verdict(b'{"count": 1.0}', "a" * 64) is Verdict.RE_ENCODED


def test_an_unverified_body_as_sentry_writes_it_has_another_secret() -> None:
    assert verdict(BODY, "a" * 64) is Verdict.UNEXPLAINED


def test_a_retired_secret_is_named_unless_a_live_one_signed_it_too() -> None:
    assert verdict(BODY, GOLDEN, candidate(retired=True)) is Verdict.RETIRED
    assert verdict(BODY, GOLDEN, candidate(retired=True), candidate()) is Verdict.GOOD


def test_the_header_of_a_ui_component_is_of_another_family() -> None:
    assert verdict(BODY, f"Sentry-App-Signature: {GOLDEN}") is Verdict.OTHER_FAMILY
    body = b'{"fields":[],"installationId":"1"}'
    assert verdict(body, sign(body, SECRET)) is Verdict.OTHER_FAMILY
    assert verdict(b"", sign(b"", SECRET)) is Verdict.OTHER_FAMILY


def test_a_service_hooks_header_needs_a_service_hooks_secret() -> None:
    hook = samples.build("servicehook.triggered", secret=SECRET.decode())
    line = f"X-ServiceHook-Signature: {hook.headers['X-ServiceHook-Signature']}"
    assert verdict(hook.body, line, candidate(kind="integration")) is Verdict.OTHER_FAMILY
    assert verdict(hook.body, line, candidate(kind="servicehook")) is Verdict.GOOD
    assert verdict(BODY, f"Sentry-Hook-Signature: {GOLDEN}", candidate(kind="servicehook")) is Verdict.OTHER_FAMILY


def test_an_unknown_signature_header_is_of_another_family() -> None:
    assert verdict(BODY, f"X-Hub-Signature-256: {GOLDEN}") is Verdict.OTHER_FAMILY


def test_a_missing_signature_is_unsigned() -> None:
    assert verdict(BODY, "") is verdict(BODY, "Sentry-Hook-Signature:") is Verdict.UNSIGNED


@pytest.mark.parametrize("signature", ["sha256=" + GOLDEN, GOLDEN.upper(), GOLDEN[:-1], "é" * 64])
def test_a_malformed_signature_is_unexplained(signature: str) -> None:
    found = diagnose(BODY, signature, [candidate()])
    assert (found.verdict, "64 lower-case hex digits" in found.says) == (Verdict.UNEXPLAINED, True)


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[" * 100_000, b"nul", b'"\\ud800"', b"[]"])
def test_any_bytes_get_a_verdict(body: bytes) -> None:
    assert verdict(body, "a" * 64) in Verdict


def test_a_service_hooks_body_under_an_integrations_secret_is_of_another_family() -> None:
    body = b'{"project":{},"group":{},"event":{}}'
    assert verdict(body, sign(body, SECRET)) is Verdict.OTHER_FAMILY
