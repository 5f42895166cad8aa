"""The source Alertmanager, of Prometheus: version 4 of its webhook body.

The names of a :class:`signalcraft.sources.protocol.Source`. ``sources.labelled_alerts`` reads the alerts.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

from signalcraft.domain.errors import Refusal
from signalcraft.sources import authorization, labelled_alerts, labelled_bodies
from signalcraft.sources.alertmanager.reference import DIALECT
from signalcraft.sources.alertmanager.reference import reference as reference
from signalcraft.sources.alertmanager.samples import NAMES, build
from signalcraft.sources.alertmanager.samples import build_canary as build_canary
from signalcraft.sources.alertmanager.samples import scenes as scenes
from signalcraft.sources.diagnosis import Candidate, Diagnosis
from signalcraft.sources.protocol import SecretKind, Traits, never_misdirected, recall_body

NAME: Final = DIALECT.source
TITLE: Final = "Alertmanager"
HEADERS: Final = frozenset({authorization.HEADER})
#: It sends again after a 5xx until its group_interval is over, and drops what is refused otherwise.
TRAITS: Final = Traits(
    signs=False, retries=True, answer_within=10.0, repeats=True, sends_resolved=True, many_per_delivery=True
)
BEARER: Final = "bearer"
KINDS: Final = (
    SecretKind(
        name=BEARER,
        carried_by="the bearer token, or the password of basic authentication, in its http_config",
        variable="ALERTMANAGER_TOKEN",
        purpose="Tokens of the Alertmanagers of the default workspace, comma-separated; all are live.",
    ),
)
SETTINGS: Final = (DIALECT.drop_labels, DIALECT.labels)
RESOURCES: Final = frozenset({labelled_alerts.RESOURCE})
FINGERPRINTS: Final = labelled_alerts.FINGERPRINTS
REFUSALS: Final[Sequence[type[Refusal]]] = ()
SAMPLES: Final = NAMES
verify = partial(authorization.verify, kind=BEARER)
identify = partial(labelled_bodies.identify, dialect=DIALECT)
normalize = partial(labelled_bodies.normalize, dialect=DIALECT)
build_sample = build
recall = recall_body
misdirected = never_misdirected


def diagnose(_body: bytes, _signature: str, _candidates: Sequence[Candidate]) -> Diagnosis:
    """Say that it does not sign."""
    return authorization.explain(TITLE)
