"""Senders of alerts: the protocol of a source, and the table of all sources.

A source is a package. To add one: write the package, add its line to ``SOURCES``, and add its
sample deliveries.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from signalcraft.domain.alerts import Normalization, Vocabulary
from signalcraft.domain.deliveries import Delivery, Identity, Secret
from signalcraft.sources import sentry


class Source(Protocol):
    """Interface of a source. Pure: the same delivery gives the same result."""

    def verify(self, delivery: Delivery, secrets: Iterable[Secret]) -> Secret:
        """Return the secret that verifies the delivery.

        Tries every secret, in constant time, even after a match.

        Raises:
            BadSignature: no secret verifies it, or there is none.
            UiComponentRequest: it is signed, but not a webhook.
        """

    def identify(self, delivery: Delivery) -> Identity:
        """Return the resource, the action and the delivery key.

        Raises:
            Refusal: the body is not JSON, not an object, or lacks a required field.
        """

    def normalize(self, delivery: Delivery, vocabulary: Vocabulary) -> Normalization:
        """Return the alerts and status changes of the delivery.

        Raises:
            PermanentError: it cannot be read at all; :meth:`identify` would have refused it.
        """

    def recall(self, body: bytes, received_at: datetime) -> Delivery:
        """Rebuild a delivery from a stored body.

        ``normalize`` reads it as when it was received.
        """


SOURCES: Mapping[str, Source] = MappingProxyType({"sentry": sentry})
