"""The protocol of a source, and the values that it is made of.

A source is a package of ``sources``: a module with the names of :class:`Source`. Everything else of SignalCraft reads
these names and knows no sender.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from signalcraft.domain.alerts import Normalization, Vocabulary
from signalcraft.domain.deliveries import Delivery, Identity, Secret
from signalcraft.domain.errors import InvalidFields, Refusal
from signalcraft.sources.diagnosis import Candidate, Diagnosis

#: Of one delivery. 400 kB of `{}` were 100,000 dead letters, and 149 MB in the worker.
MAX_ALERTS: Final = 10_000
# WSGI cannot tell an underscore from a hyphen.
_HEADER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a sender does. Documents say it; reception and ``doctor`` act on it.

    ``signs``: it signs the body; without, it carries a token. ``retries``: it sends a delivery again after a 5xx, and
    after no other refusal: so it is answered 503 where others get 429. ``answer_within``: seconds until it gives up on
    an answer. ``repeats``: it sends an alert again while that lasts. ``sends_resolved``: it says when an alert is over.
    ``many_per_delivery``: one delivery may hold several alerts.
    """

    signs: bool
    retries: bool
    answer_within: float
    repeats: bool
    sends_resolved: bool
    many_per_delivery: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKind:
    """A kind of secret that verifies deliveries of a source.

    ``variable`` is the environment variable with those of the default workspace, ``purpose`` says so in a sentence;
    without one they are only stored. ``carried_by`` says to a person how the sender carries it.
    """

    name: str
    carried_by: str
    variable: str = ""
    purpose: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSetting:
    """A setting of one source; ``values`` says in words what ``parse`` accepts, which else raises ``ValueError``.

    ``header``: it is the name by which the sender was configured to send this header of ``HEADERS``.
    ``is_text_or_file``: a value without ``=`` is the path of a file with it.
    """

    variable: str
    values: str
    parse: Callable[[str], Any]
    purpose: str
    default: str = ""
    example: str = ""
    header: str = ""
    is_text_or_file: bool = False

    def of(self, vocabulary: Vocabulary) -> Any:  # noqa: ANN401 - what ``parse`` returns
        """Return the value in ``vocabulary``, else the default."""
        found = vocabulary.settings.get(self.variable)
        return self.parse(self.default) if found is None else found


def check_number(alerts: Sequence[object]) -> None:
    """Check that one delivery holds no more than ``MAX_ALERTS``.

    Raises:
        InvalidFields: it holds more.
    """
    if len(alerts) > MAX_ALERTS:
        raise InvalidFields(
            errors={"alerts": [f"must be at most {MAX_ALERTS:,} in one delivery; send the others in the next"]}
        )


def header_name(text: str) -> str:
    """Parse the name of an HTTP header."""
    if not _HEADER_NAME.fullmatch(text):
        raise ValueError
    return text.lower()


def comma_separated(text: str) -> tuple[str, ...]:
    """Parse texts that commas separate."""
    return tuple(part for part in (item.strip() for item in text.split(",")) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One HTTP request of a sender. ``url_token`` is the token in the URL of a sender that cannot sign.

    ``reads`` are the headers that its source reads, ``kind`` is the kind of its secret.
    """

    resource: str
    action: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    reads: frozenset[str]
    kind: str
    url_token: str = field(default="", repr=False)

    def url(self, webhook_url: str) -> str:
        """Return ``webhook_url`` with the token, if the URL carries one."""
        if not self.url_token:
            return webhook_url
        return f"{webhook_url}{'&' if '?' in webhook_url else '?'}{urlencode({'token': self.url_token})}"

    def as_delivery(self, received_at: datetime) -> Delivery:
        """Return the sample as the web process would receive it."""
        headers = {name.lower(): value for name, value in self.headers.items() if name.lower() in self.reads}
        return Delivery(headers=headers, body=self.body, received_at=received_at, url_token=self.url_token)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Deliveries of the demo that show one feature.

    ``alerts`` of them are new alerts, the others must not be counted. A ``forged`` one must be refused.
    """

    shows: str
    sample: str
    times: int = 1
    alerts: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    forged: bool = False


class Source(Protocol):
    """Interface of a source. Pure: the same delivery gives the same result, at any time."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a constant of the module
        """Name in URLs, tables and the API: lower-case letters and digits."""

    @property
    def TITLE(self) -> str:  # noqa: N802
        """Name as people write it."""

    @property
    def HEADERS(self) -> frozenset[str]:  # noqa: N802
        """Headers that it reads, lower-case. No other header is kept."""

    @property
    def TRAITS(self) -> Traits:  # noqa: N802
        """What its sender does."""

    @property
    def KINDS(self) -> Sequence[SecretKind]:  # noqa: N802
        """The kinds of its secrets; the first is the usual one."""

    @property
    def SETTINGS(self) -> Sequence[SourceSetting]:  # noqa: N802
        """Its settings. A delivery is normalized with their values in the vocabulary."""

    @property
    def RESOURCES(self) -> frozenset[str]:  # noqa: N802
        """Every resource that :meth:`identify` returns; metrics count others as ``other``."""

    @property
    def FINGERPRINTS(self) -> Mapping[str, str]:  # noqa: N802
        """What each type of fingerprint means, as the end of a sentence that may hold ``{value}``."""

    @property
    def REFUSALS(self) -> Sequence[type[Refusal]]:  # noqa: N802
        """The refusals that are its own."""

    @property
    def SAMPLES(self) -> Sequence[str]:  # noqa: N802
        """Names of its sample deliveries, which no other source uses."""

    def verify(self, delivery: Delivery, secrets: Iterable[Secret]) -> Secret:
        """Return the secret that verifies the delivery.

        Tries every secret of its kind, in constant time, even after a match.

        Raises:
            BadSignature: no secret verifies it, or there is none.
        """

    def identify(self, delivery: Delivery, vocabulary: Vocabulary) -> Identity:
        """Return the resource, the action and the delivery key.

        Raises:
            Refusal: the body is not JSON, not an object, or not one of this sender.
        """

    def normalize(self, delivery: Delivery, vocabulary: Vocabulary) -> Normalization:
        """Return the alerts and status changes of the delivery, and the alerts that cannot be read.

        Raises:
            PermanentError: it cannot be read at all; :meth:`identify` would have refused it.
        """

    def misdirected(self, headers: Mapping[str, str]) -> Refusal | None:
        """Return what a request to a path that does not exist is, if ``headers`` show that this sender sent it."""

    def diagnose(self, body: bytes, signature: str, candidates: Sequence[Candidate]) -> Diagnosis:
        """Find which secret made ``signature``: its digits, or a whole header line, ``Header: digits``."""

    def recall(self, body: bytes, received_at: datetime) -> Delivery:
        """Rebuild a delivery from a stored body, or from the part of one.

        ``normalize`` reads it as when it was received.
        """

    def build_sample(self, name: str, *, secret: str, **params: Any) -> Sample:  # noqa: ANN401 - of the source
        """Build the sample ``name`` with ``secret``; title, project and environment may be given.

        Raises:
            ValueError: no sample has that name.
            TypeError: a parameter is unknown.
        """

    def build_canary(self, secret: str) -> Sample:
        """Build an alert of the reserved project ``domain.deliveries.CANARY_PROJECT``."""

    def scenes(self) -> Sequence[Scene]:
        """Return the scenes of the demo, in order. Ids are new each time."""

    def reference(self) -> str:
        """Return the page about its fields, in Markdown."""


def recall_body(body: bytes, received_at: datetime) -> Delivery:
    """Rebuild a delivery that is read without headers: ``recall`` of most sources."""
    return Delivery(headers={}, body=body, received_at=received_at)


def never_misdirected(_headers: Mapping[str, str]) -> Refusal | None:
    """Return None: ``misdirected`` of sources whose requests show in no header which sender they are of."""
    return None
