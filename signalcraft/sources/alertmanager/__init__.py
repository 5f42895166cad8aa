"""The source Alertmanager, of Prometheus: version 4 of its webhook body.

The names of a :class:`signalcraft.sources.protocol.Source`. ``sources.labelled_alerts`` reads the alerts.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from signalcraft.domain.alerts import Normalization, Vocabulary
from signalcraft.domain.deliveries import Delivery, Identity, Secret
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
build_sample = build
recall = recall_body
misdirected = never_misdirected

_PLAIN = Vocabulary()


def verify(delivery: Delivery, secrets: Iterable[Secret]) -> Secret:
    """Return the secret that ``delivery`` carries.

    Raises:
        BadCredentials: it carries none.
    """
    return authorization.verify(delivery, secrets, BEARER)


def identify(delivery: Delivery) -> Identity:
    """Return the resource, the action and the delivery key.

    Raises:
        Refusal: it is not version 4 of the body.
    """
    return labelled_bodies.identify(delivery, DIALECT)


def normalize(delivery: Delivery, vocabulary: Vocabulary = _PLAIN) -> Normalization:
    """Return the alerts that fire, the ends of those that are over, and what cannot be read.

    Raises:
        UnexpectedShape: :func:`identify` would have refused it.
    """
    return labelled_bodies.normalize(delivery, DIALECT, vocabulary)


def diagnose(_body: bytes, _signature: str, _candidates: Sequence[Candidate]) -> Diagnosis:
    """Say that it does not sign."""
    return authorization.explain(TITLE)
