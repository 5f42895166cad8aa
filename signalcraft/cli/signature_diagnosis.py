"""Why a signature is not good: what ``doctor --delivery`` tries on a body that somebody kept.

Pure: bytes and secrets in, a sentence out. Receivers between Sentry and us that parse a body and write it anew are
the commonest reason (https://github.com/getsentry/sentry/issues/71025), so the known ways of writing JSON are undone.
"""

import hmac
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from signalcraft.domain.deliveries import Secret
from signalcraft.sources.sentry.samples import encode
from signalcraft.sources.sentry.signature import SECRET_KINDS, Family, sign

_HEX: Final = re.compile(r"[0-9a-f]{64}")
_HEADERS: Final = {
    Family.INTEGRATION: "Sentry-Hook-Signature",
    Family.SERVICE_HOOK: "X-ServiceHook-Signature",
    Family.UI_COMPONENT: "Sentry-App-Signature",
}


class Verdict(StrEnum):
    """What became of it."""

    GOOD = "good"
    RE_ENCODED = "re-encoded"
    RETIRED = "retired"
    OTHER_FAMILY = "other family"
    UNSIGNED = "unsigned"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A verdict, what speaks for it, and what to do."""

    verdict: Verdict
    says: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A secret that may have signed it."""

    secret: Secret
    retired: bool = False


def diagnose(body: bytes, signature: str, candidates: Sequence[Candidate]) -> Diagnosis:
    """Say what explains ``signature``: its hex digits, or a whole line ``Header: hex``."""
    header, _, offered = signature.rpartition(":")
    named, offered = header.strip().lower(), offered.strip()
    if not offered:
        return _unsigned()
    if named and named not in set(_HEADERS):
        return _strange_header(header.strip())
    family = Family(named) if named else None
    return (
        _from_match(body, offered, candidates, family)
        or _from_rewriting(body, offered, candidates)
        or _unexplained(body, offered, candidates)
    )


def _from_match(body: bytes, offered: str, candidates: Sequence[Candidate], named: Family | None) -> Diagnosis | None:
    """The body as it is, under each secret."""
    match = _signer(body, offered, candidates)
    if match is None:
        return None
    name = match.secret.name
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


def _from_rewriting(body: bytes, offered: str, candidates: Sequence[Candidate]) -> Diagnosis | None:
    """The body as Sentry may have written it."""
    for change, original in _originals(body):
        match = _signer(original, offered, candidates)
        if match is not None:
            signer = f"the retired secret {match.secret.name}" if match.retired else match.secret.name
            return Diagnosis(
                verdict=Verdict.RE_ENCODED,
                says=f"The body was re-encoded on its way: {change}, {signer} signed it.",
                advice="Whatever stands in front must pass the body's bytes on as they came.",
            )
    return None


def _originals(body: bytes) -> Iterator[tuple[str, bytes]]:
    """What ``body`` may have been, and what would have to be undone for that."""
    stripped = body.removeprefix(b"\xef\xbb\xbf").strip()
    yield "without the byte order mark and blanks around it", stripped
    yield "with a line's end after it", stripped + b"\n"
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
        yield f"{described} and with a line's end", written + b"\n"


def _unexplained(body: bytes, offered: str, candidates: Sequence[Candidate]) -> Diagnosis:
    if not _HEX.fullmatch(offered):
        return Diagnosis(
            verdict=Verdict.UNEXPLAINED,
            says="It is no signature of Sentry's: that is 64 lower-case hex digits and nothing before them.",
            advice="Copy the value of Sentry-Hook-Signature whole.",
        )
    if not candidates:
        return Diagnosis(
            verdict=Verdict.UNEXPLAINED,
            says="There is no secret to try.",
            advice="Set SENTRY_CLIENT_SECRET, or give one with --secret on standard input.",
        )
    says = f"None of {len(candidates)} secrets signed it, in any of the ways in which JSON can be written."
    if _is_rewritten(body):
        says += " The body is not as Sentry writes it (compact, ASCII): it looks re-encoded, perhaps numbers too."
        advice = "Record the bytes as they come from Sentry, before anything parses them, and compare with them."
        return Diagnosis(verdict=Verdict.RE_ENCODED, says=says, advice=advice)
    advice = "Copy the Client Secret of the integration that sends this. One that was rotated is changed at once."
    return Diagnosis(verdict=Verdict.UNEXPLAINED, says=says, advice=advice)


def _unsigned() -> Diagnosis:
    return Diagnosis(
        verdict=Verdict.UNSIGNED,
        says="There is no signature: Sentry's legacy plugin signs nothing.",
        advice="Use an internal integration; or `secret add --kind legacy`, and end the URL in ?token=<secret>.",
    )


def _strange_header(name: str) -> Diagnosis:
    return Diagnosis(
        verdict=Verdict.OTHER_FAMILY,
        says=f"{name} is no header that Sentry signs with.",
        advice=f"Sentry's are {', '.join(_HEADERS.values())}.",
    )


def _signer(body: bytes, offered: str, candidates: Sequence[Candidate]) -> Candidate | None:
    """Who signed ``body``; of several, one that is live."""
    given = offered.encode("utf-8", "surrogateescape")
    found = [one for one in candidates if hmac.compare_digest(sign(body, one.secret.value).encode(), given)]
    return min(found, key=lambda one: one.retired, default=None)


def _family_of(body: bytes, secret: Secret) -> Family:
    """What a body of this shape comes with, where nobody named the header."""
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


def _is_rewritten(body: bytes) -> bool:
    """Whether ``body`` is JSON, and not spelled as Sentry's encoder spells it."""
    try:
        return encode(json.loads(body)) != body
    except (ValueError, RecursionError):
        return False
