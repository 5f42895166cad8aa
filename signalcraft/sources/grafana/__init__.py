"""The source Grafana: version 1 of the webhook body of Grafana Alerting.

The names of a :class:`signalcraft.sources.protocol.Source`. ``sources.labelled_alerts`` reads the alerts, ``signature``
verifies them, ``dialect`` has what is Grafana's own.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

from signalcraft.domain.errors import Refusal
from signalcraft.sources import labelled_alerts, labelled_bodies
from signalcraft.sources.grafana.dialect import DIALECT
from signalcraft.sources.grafana.dialect import reference as reference
from signalcraft.sources.grafana.samples import NAMES, build
from signalcraft.sources.grafana.samples import build_canary as build_canary
from signalcraft.sources.grafana.samples import scenes as scenes
from signalcraft.sources.grafana.signature import BEARER, HEADER_SETTINGS, SIGNED
from signalcraft.sources.grafana.signature import HEADERS as HEADERS
from signalcraft.sources.grafana.signature import TITLE as TITLE
from signalcraft.sources.grafana.signature import diagnose as diagnose
from signalcraft.sources.grafana.signature import verify as verify
from signalcraft.sources.protocol import SecretKind, Traits, never_misdirected, recall_body

NAME: Final = DIALECT.source
#: What fails is sent again with the next notification of its group, whatever the answer.
TRAITS: Final = Traits(
    signs=True, retries=True, answer_within=30.0, repeats=True, sends_resolved=True, many_per_delivery=True
)
KINDS: Final = (
    SecretKind(
        name=BEARER,
        carried_by="the credentials of the Authorization header, or the password of HTTP basic authentication, in its "
        "contact point",
        variable="GRAFANA_TOKEN",
        purpose="Tokens of the Grafanas of the default workspace, comma-separated; all are live.",
    ),
    SecretKind(
        name=SIGNED,
        carried_by="the key of the signature, HMAC Signature ▸ Secret in its contact point",
        variable="GRAFANA_HMAC_SECRET",
        purpose="Keys that the Grafanas of the default workspace sign with, comma-separated; all are live.",
    ),
)
SETTINGS: Final = (DIALECT.drop_labels, DIALECT.labels, *HEADER_SETTINGS)
RESOURCES: Final = frozenset({labelled_alerts.RESOURCE})
FINGERPRINTS: Final = labelled_alerts.FINGERPRINTS
REFUSALS: Final[Sequence[type[Refusal]]] = ()
SAMPLES: Final = NAMES
identify = partial(labelled_bodies.identify, dialect=DIALECT)
normalize = partial(labelled_bodies.normalize, dialect=DIALECT)
build_sample = build
recall = recall_body
misdirected = never_misdirected
