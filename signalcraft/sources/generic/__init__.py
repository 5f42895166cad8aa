"""The source of every other sender: a small body of our own, CloudEvents 1.0, or any body by a mapping.

The names of a :class:`signalcraft.sources.protocol.Source`. ``signature`` verifies, ``body`` opens, ``mappings`` reads
the bodies of others, ``alerts`` has the fields.
"""

import hashlib
from typing import Final

from signalcraft.domain.alerts import AlertFailure, Normalization, NormalizedAlert, StatusChange, Vocabulary
from signalcraft.domain.deliveries import CANARY_PROJECT, Delivery, Identity
from signalcraft.domain.errors import InvalidFields, Refusal, UnexpectedShape
from signalcraft.sources.generic import alerts, body, signature
from signalcraft.sources.generic.alerts import FINGERPRINTS as FINGERPRINTS
from signalcraft.sources.generic.errors import UnknownMapping
from signalcraft.sources.generic.mappings import MAPPINGS
from signalcraft.sources.generic.reference import reference as reference
from signalcraft.sources.generic.samples import NAMES, build
from signalcraft.sources.generic.samples import build_canary as build_canary
from signalcraft.sources.generic.samples import scenes as scenes
from signalcraft.sources.generic.signature import diagnose as diagnose
from signalcraft.sources.generic.signature import verify as verify
from signalcraft.sources.protocol import SecretKind, Traits, check_number, never_misdirected, recall_body

NAME: Final = alerts.SOURCE
TITLE: Final = "Other senders"
HEADERS: Final = signature.HEADERS | body.HEADERS
#: Who sends again at all does so after a 5xx; some after no other refusal.
TRAITS: Final = Traits(
    signs=True, retries=True, answer_within=10.0, repeats=True, sends_resolved=True, many_per_delivery=True
)
KINDS: Final = (
    SecretKind(
        name=signature.BEARER,
        carried_by="the bearer token, or the password of basic authentication, in the header Authorization",
        variable="GENERIC_TOKEN",
        purpose="Tokens of other senders of the default workspace, comma-separated; all are live.",
    ),
    SecretKind(
        name=signature.SIGNED,
        carried_by="the key of the signature in the header webhook-signature, of Standard Webhooks",
        variable="GENERIC_SIGNING_SECRET",
        purpose="Keys (`whsec_...`) of other senders that sign as Standard Webhooks says, for the default workspace, "
        "comma-separated; all are live.",
    ),
    SecretKind(name=signature.URL, carried_by="the token at the end of its URL, `?token=<secret>`"),
)
SETTINGS: Final = (MAPPINGS,)
RESOURCES: Final = frozenset({body.ALERT, body.EVENT, body.MAPPED})
REFUSALS: Final = (UnknownMapping,)
SAMPLES: Final = NAMES
build_sample = build
recall = recall_body
misdirected = never_misdirected

_PLAIN = Vocabulary()


def identify(delivery: Delivery, vocabulary: Vocabulary = _PLAIN) -> Identity:
    """Return the resource, the action and the delivery key.

    A single alert is checked whole, so that the author of a sender sees what is wrong; of a mapped one, the name of the
    mapping alone: what that cannot read, the worker keeps, so that a correction of the mapping can.

    Raises:
        Refusal: it is no alert, no list of such, and no event, or holds too many.
        UnknownMapping: no mapping has the name.
    """
    sent = body.parse(delivery, is_checked=False)
    _check_mapping(delivery, vocabulary)
    check_number(sent)
    first = sent[0]
    resource = body.resource(first)
    if len(sent) > 1:
        action, is_canary = "several", False
    else:
        element = _checked(first, delivery)
        action = str(element.fields["status"]) if element else resource
        is_canary = element is not None and element.fields.get("project") == CANARY_PROJECT
    return Identity(resource=resource, action=action, delivery_key=_delivery_key(delivery), is_canary=is_canary)


def normalize(delivery: Delivery, vocabulary: Vocabulary = _PLAIN) -> Normalization:
    """Return the alerts that fire, the ends of those that are over, and what cannot be read.

    Raises:
        UnexpectedShape: :func:`identify` would have refused it.
    """
    try:
        sent = body.parse(delivery, is_checked=True)
    except Refusal as refusal:
        raise UnexpectedShape(refusal.title, field=next(iter(refusal.errors), "")) from refusal
    known = MAPPINGS.of(vocabulary)
    reading = alerts.Reading(vocabulary, delivery.received_at)
    outcomes: list[NormalizedAlert | StatusChange] = []
    failures: list[AlertFailure] = []
    for number, each in enumerate(sent):
        part = body.part(each, number, len(sent), delivery)
        try:
            element = body.read(each, part, known)
        except UnexpectedShape as error:
            failures.append(AlertFailure(part=part, error=error))
        else:
            outcomes += [alerts.outcome(element, reading)] if element else []
    return Normalization(outcomes=outcomes, warnings=tuple(reading.warnings), failures=failures)


def _check_mapping(delivery: Delivery, vocabulary: Vocabulary) -> None:
    name = delivery.headers.get(body.MAPPING_HEADER)
    if name is not None and name not in (known := MAPPINGS.of(vocabulary)):
        raise UnknownMapping(name, known)


def _checked(sent: object, delivery: Delivery) -> alerts.Element | None:
    """Return the single alert of a body; None if a mapping is to read it.

    Raises:
        InvalidFields: it is none.
    """
    try:
        return body.read(sent, body.part(sent, 0, 1, delivery), None)
    except UnexpectedShape as error:
        must = str(error).removeprefix(f"{error.field}: ")
        raise InvalidFields(errors={error.field.removeprefix("body."): [must]}) from None


def _delivery_key(delivery: Delivery) -> str:
    """Return the key that a redelivery shares: the id of a signed message, else its bytes, and the minute of receipt.

    The id stays when a message is sent again, and is signed.
    """
    if signature.SIGNATURE_HEADER in delivery.headers:
        message_id = delivery.headers.get(signature.ID_HEADER, "")
        return f"id:{hashlib.sha256(message_id.encode('utf-8', 'surrogatepass')).hexdigest()}"
    minute = delivery.received_at.strftime("%Y-%m-%dT%H:%M")
    name = delivery.headers.get(body.MAPPING_HEADER, "")
    return f"{name or body.ALERT}:{hashlib.sha256(delivery.body).hexdigest()}:{minute}"
