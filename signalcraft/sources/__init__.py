"""Who sends us alerts: the protocol of a source, and the table of them.

A source is a module. To add one: write the module, add its line to ``SOURCES``, and give
``samples`` its deliveries.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from signalcraft.domain.alerts import Normalization, Vocabulary
from signalcraft.domain.deliveries import Delivery, Identity, Secret
from signalcraft.sources import sentry


class Source(Protocol):
    """What the rest of the house asks of a sender. Pure: the same delivery gives the same answer."""

    def verify(self, delivery: Delivery, secrets: Iterable[Secret]) -> Secret:
        """The secret that explains the delivery.

        Every secret is tried, in constant time, whichever matches.

        Raises:
            BadSignature: none of them does, or there is none.
            UiComponentRequest: it is signed, and a call of another kind.
        """

    def identify(self, delivery: Delivery) -> Identity:
        """What the delivery is and what a redelivery of it shares.

        Raises:
            Refusal: the body is not JSON, not an object, or lacks what every delivery has.
        """

    def normalize(self, delivery: Delivery, vocabulary: Vocabulary) -> Normalization:
        """What the delivery means.

        Raises:
            PermanentError: something without which there is no alert is missing.
        """

    def recall(self, body: bytes, received_at: datetime) -> Delivery:
        """The delivery that a stored body was, so that ``normalize`` reads it as it did when it came."""


SOURCES: Mapping[str, Source] = MappingProxyType({"sentry": sentry})
