"""The source Sentry: the names of a :class:`signalcraft.sources.protocol.Source`.

The modules next to this one hold the facts about Sentry: ``signature`` (families of requests), ``envelope``
(proof of the resource), ``schemas`` (required fields), ``fields`` and ``field_paths`` (where each field is read),
``deliveries`` (the table of handlers), ``alerts`` and ``status_changes`` (the handlers), ``identifiers``,
``delivery_keys``, ``fingerprint``, ``urls``.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from signalcraft.domain.deliveries import CANARY_PROJECT
from signalcraft.sources.protocol import Sample, SecretKind, SourceSetting, Traits
from signalcraft.sources.sentry import alerts, samples
from signalcraft.sources.sentry.deliveries import CANARY_PROJECT_ID
from signalcraft.sources.sentry.deliveries import identify as identify
from signalcraft.sources.sentry.deliveries import normalize as normalize
from signalcraft.sources.sentry.envelope import RESOURCES as RESOURCES
from signalcraft.sources.sentry.envelope import recall as recall
from signalcraft.sources.sentry.errors import ResourceMismatch, UiComponentRequest
from signalcraft.sources.sentry.reference import reference as reference
from signalcraft.sources.sentry.samples.scenes import scenes as scenes
from signalcraft.sources.sentry.signature import HEADERS as HEADERS
from signalcraft.sources.sentry.signature import misdirected as misdirected
from signalcraft.sources.sentry.signature import verify as verify
from signalcraft.sources.sentry.signature_diagnosis import diagnose as diagnose

NAME: Final = alerts.SOURCE
TITLE: Final = "Sentry"
#: A redirect counts as success, and is not followed.
TRAITS: Final = Traits(
    signs=True, retries=False, answer_within=1.0, repeats=False, sends_resolved=True, many_per_delivery=False
)
KINDS: Final = (
    SecretKind(
        name="integration",
        carried_by="the key of the signature Sentry-Hook-Signature: the integration's Client Secret",
        variable="SENTRY_CLIENT_SECRET",
        purpose="Client Secrets of the Sentry integrations of the default workspace, comma-separated; all are live.",
    ),
    SecretKind(name="servicehook", carried_by="the key of the signature X-ServiceHook-Signature"),
    SecretKind(
        name="legacy",
        carried_by="the token at the end of its URL, `?token=<secret>`: Sentry's legacy plugin does not sign",
    ),
)
SETTINGS: Final[Sequence[SourceSetting]] = ()
REFUSALS: Final = (ResourceMismatch, UiComponentRequest)
FINGERPRINTS: Final[Mapping[str, str]] = {
    "issue": "the delivery names issue {value}, and an issue is Sentry's own grouping",
    "metric_rule": "it is a metric alert of rule {value}",
    "metric_incident": "it is a metric alert of incident {value}, which names no rule",
    "custom": "the delivery names no issue, and the event has a fingerprint of its own",
    "hashes": "the delivery names no issue, so Sentry's grouping hashes stand in",
    "made": "the delivery has neither issue, fingerprint nor hashes, so type, title and culprit stand in",
}
SAMPLES: Final = samples.NAMES
build_sample = samples.build


def build_canary(secret: str) -> Sample:
    """Build an alert of the canary's project."""
    return samples.build(
        "event_alert.triggered",
        secret=secret,
        project=CANARY_PROJECT,
        project_id=CANARY_PROJECT_ID,
        level="info",
        title="Canary: is the way through open?",
        rule="SignalCraft canary",
    )
