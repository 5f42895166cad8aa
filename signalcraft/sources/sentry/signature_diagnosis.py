"""Diagnose a signature that does not verify: what ``doctor --delivery`` tries on a recorded body.

Pure: bytes and secrets in, a sentence out. A proxy between Sentry and SignalCraft that parses a body and serializes it
again is the most common reason (https://github.com/getsentry/sentry/issues/71025), so the usual JSON encodings are
tried.
"""

import hmac
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from signalcraft.domain.deliveries import Secret
from signalcraft.sources.diagnosis import Candidate, Diagnosis, Verdict
from signalcraft.sources.sentry.samples import encode
from signalcraft.sources.sentry.signature import SECRET_KINDS, Family, sign

_HEX: Final = re.compile(r"[0-9a-f]{64}")
_HEADERS: Final = {
    Family.INTEGRATION: "Sentry-Hook-Signature",
    Family.SERVICE_HOOK: "X-ServiceHook-Signature",
    Family.UI_COMPONENT: "Sentry-App-Signature",
}


def diagnose(body: bytes, signature: str, candidates: Sequence[Candidate]) -> Diagnosis:
    """Find which secret made ``signature``: its hex digits, or a whole line ``Header: hex``."""
    header, _, offered = signature.rpartition(":")
    named, offered = header.strip().lower(), offered.strip()
    if not offered:
        return _unsigned()
    if named and named not in set(_HEADERS):
        return _unknown_header(header.strip())
    family = Family(named) if named else None
    return (
        _match_as_is(body, offered, candidates, family)
        or _match_re_encoded(body, offered, candidates)
        or _unexplained(body, offered, candidates)
    )


def _match_as_is(body: bytes, offered: str, candidates: Sequence[Candidate], named: Family | None) -> Diagnosis | None:
    match = _signer(body, offered, candidates)
    if match is None:
        return None
    name = match.secret.name
    if match.other_workspace:
        slug = match.other_workspace
        return Diagnosis(
            verdict=Verdict.OTHER_WORKSPACE,
            says=f"Another workspace's secret signed it: {match}.",
            advice=f"Let that integration's webhook URL end in /{slug}, or `secret add` its secret to this workspace.",
        )
    if match.retired:
        return Diagnosis(
            verdict=Verdict.RETIRED,
            says=f"The retired secret {name} signed it.",
            advice="Sentry still signs with the old Client Secret: rotate it there, or add it again with `secret add`.",
        )
    family = named or _family_of(body, match.secret)
    if family is Family.UI_COMPONENT:
        return Diagnosis(
            verdict=Verdict.OTHER_FAMILY,
            says=f"{name} signed it, as a call of a UI component (Sentry-App-Signature), which is no webhook.",
            advice="Remove the UI component's schema from the integration; SignalCraft has none.",
        )
    if match.secret.kind != SECRET_KINDS[family]:
        return Diagnosis(
            verdict=Verdict.OTHER_FAMILY,
            says=f"{name} signed it and is stored as {match.secret.kind}; {_HEADERS[family]} needs "
            f"{SECRET_KINDS[family]}.",
            advice=f"Add it again: `secret add --kind {SECRET_KINDS[family]}`.",
        )
    return Diagnosis(verdict=Verdict.GOOD, says=f"The signature is good: {name} signed it ({_HEADERS[family]}).")


def _match_re_encoded(body: bytes, offered: str, candidates: Sequence[Candidate]) -> Diagnosis | None:
    """Try the encodings that the body may have had before it was re-encoded."""
    for change, original in _originals(body):
        match = _signer(original, offered, candidates)
        if match is not None:
            return Diagnosis(
                verdict=Verdict.RE_ENCODED,
                says=f"The body was re-encoded on its way: {change}, {match} signed it.",
                advice="Every proxy in front of SignalCraft must pass the body's bytes on unchanged.",
            )
    return None


def _originals(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the possible original bodies, each with its encoding in words."""
    stripped = body.removeprefix(b"\xef\xbb\xbf").strip()
    yield "without the byte order mark and surrounding blanks", stripped
    yield "with a trailing newline", stripped + b"\n"
    try:
        value: Any = json.loads(stripped)
    except (ValueError, RecursionError):
        return
    yield "as compact JSON in ASCII, as Sentry writes it", encode(value)
    for described, options in (
        ("as compact JSON in UTF-8", {"separators": (",", ":"), "ensure_ascii": False}),
        ("as JSON with blanks, in ASCII", {}),
        ("as JSON with blanks, in UTF-8", {"ensure_ascii": False}),
    ):
        written = json.dumps(value, **options).encode("utf-8", "surrogatepass")
        yield described, written
        yield f"{described} and with a trailing newline", written + b"\n"


def _unexplained(body: bytes, offered: str, candidates: Sequence[Candidate]) -> Diagnosis:
    if not _HEX.fullmatch(offered):
        return Diagnosis(
            verdict=Verdict.UNEXPLAINED,
            says="It is no signature of Sentry: those are 64 lower-case hex digits without a prefix.",
            advice="Copy the whole value of Sentry-Hook-Signature.",
        )
    own = [candidate for candidate in candidates if not candidate.other_workspace]
    if not own:
        return Diagnosis(
            verdict=Verdict.UNEXPLAINED,
            says="There is no secret to try, and no other workspace's signed it.",
            advice="Set SENTRY_CLIENT_SECRET, or give one with --secret on standard input.",
        )
    says = f"None of {len(own)} secrets signed it, in any of the usual JSON encodings, nor any of another workspace."
    if _is_re_encoded(body):
        says += " The body is not encoded as Sentry does it (compact, ASCII): it looks re-encoded, perhaps numbers too."
        advice = "Record the bytes as they come from Sentry, before anything parses them, and compare."
        return Diagnosis(verdict=Verdict.RE_ENCODED, says=says, advice=advice)
    advice = "Copy the Client Secret of the integration that sends this. Rotating it in Sentry takes effect at once."
    return Diagnosis(verdict=Verdict.UNEXPLAINED, says=says, advice=advice)


def _unsigned() -> Diagnosis:
    return Diagnosis(
        verdict=Verdict.UNSIGNED,
        says="There is no signature: Sentry's legacy plugin does not sign.",
        advice="Use an internal integration; or `secret add --kind legacy`, and end the URL in ?token=<secret>.",
    )


def _unknown_header(name: str) -> Diagnosis:
    return Diagnosis(
        verdict=Verdict.OTHER_FAMILY,
        says=f"{name} is not a signature header of Sentry.",
        advice=f"Sentry's are {', '.join(_HEADERS.values())}.",
    )


def _signer(body: bytes, offered: str, candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the secret that signed ``body``; of several, one of the workspace, and of those a live one."""
    given = offered.encode("utf-8", "surrogateescape")
    matches = [
        candidate for candidate in candidates if hmac.compare_digest(sign(body, candidate.secret.value).encode(), given)
    ]
    return min(matches, key=lambda candidate: (candidate.other_workspace != "", candidate.retired), default=None)


def _family_of(body: bytes, secret: Secret) -> Family:
    """Infer the signature family from the body, if the header's name was not given."""
    if secret.kind == SECRET_KINDS[Family.SERVICE_HOOK]:
        return Family.SERVICE_HOOK
    keys = _keys(body)
    if {"project", "group", "event"} <= keys:
        return Family.SERVICE_HOOK
    return Family.UI_COMPONENT if not body or {"fields", "installationId"} <= keys else Family.INTEGRATION


def _keys(body: bytes) -> set[str]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return set()
    return set(value) if isinstance(value, dict) else set()


def _is_re_encoded(body: bytes) -> bool:
    """Return whether ``body`` is JSON, but not as Sentry's encoder writes it."""
    try:
        return encode(json.loads(body)) != body
    except (ValueError, RecursionError):
        return False
