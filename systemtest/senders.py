"""Several concurrent senders: each delivers, retries without an acknowledgement, and records the responses.

Deliveries are repeated as Sentry does it: the same one again, the same error by another rule, and as ``error.created``.
A delivery without a 2xx is sent again, three times in all, as for a published integration: so a delivery
could be recognized as a duplicate without being stored.
"""

import http.client
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from systemtest import bodies
from systemtest.bodies import Alert, Sent

#: Far above Sentry's one second, so that a late response is recorded as late.
_TIMEOUT_SECONDS: Final = 10.0
_MAX_ATTEMPTS: Final = 3
_RETRY_DELAY_SECONDS: Final = 0.8
_ISSUES: Final = 40
#: The share of alerts that open a group, so that there is something to tell of all the time.
_NEW_ISSUES: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt and its response; ``status`` is 0 without a response, ``at`` is on the monotonic clock."""

    alert: Alert
    at: float
    seconds: float
    status: int

    @property
    def acknowledged(self) -> bool:
        """Return whether the response is 2xx: the sender will not send again."""
        return 200 <= self.status < 300

    @property
    def late(self) -> bool:
        """Return whether the response, or the wait for one, took over a second. A refused connection is no wait."""
        return self.seconds > 1.0


class Senders:
    """Threads that send to one URL, and the history of their attempts."""

    def __init__(self, url: str, secret: str, *, number: int, per_second: float, seed: int) -> None:
        """Prepare the threads. ``per_second`` is the total rate; ``url`` is the webhook's."""
        self.history: list[Attempt] = []
        self._url = urlsplit(url)
        self._secret = secret
        self._pause = number / per_second
        self._stopped = threading.Event()
        self._run = uuid.uuid4().int % 1_000_000
        self._threads = [
            threading.Thread(target=self._send, args=(random.Random(seed + position),)) for position in range(number)
        ]

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send during the block; afterwards finish the deliveries in progress."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            for thread in self._threads:
                thread.join()

    def _send(self, chance: random.Random) -> None:
        waiting: list[tuple[float, Sent, int]] = []
        while not self._stopped.is_set() or waiting:
            began = time.monotonic()
            due = [one for one in waiting if one[0] <= began or self._stopped.is_set()]
            waiting = [one for one in waiting if one not in due]
            again = [(sent, tried) for _, sent, tried in due]
            new = [] if self._stopped.is_set() else [(sent, 0) for sent in self._next(chance)]
            for sent, tried in again + new:
                if not self._deliver(sent) and tried + 1 < _MAX_ATTEMPTS:
                    waiting.append((time.monotonic() + _RETRY_DELAY_SECONDS * (tried + 1), sent, tried + 1))
            self._stopped.wait(max(0.0, self._pause * chance.uniform(0.5, 1.5) - (time.monotonic() - began)))

    def _next(self, chance: random.Random) -> Iterator[Sent]:
        """Yield a new alert, and sometimes a repetition of it."""
        issue = str(self._run * 1_000 + chance.randrange(_ISSUES))
        if chance.random() < _NEW_ISSUES:
            issue = str(uuid.uuid4().int % 10**12)
        alert = Alert(event_id=f"{chance.getrandbits(64):016x}{uuid.uuid4().hex[:16]}", issue=issue)
        sent = bodies.by_rule(alert, "Everything", self._secret)
        yield sent
        companion = chance.random()
        if companion < 0.1:
            yield sent
        elif companion < 0.15:
            yield bodies.by_rule(alert, "Payments", self._secret)
        elif companion < 0.2:
            yield bodies.by_subscription(alert, self._secret)

    def _deliver(self, sent: Sent) -> bool:
        began = time.monotonic()
        status = self._post(sent)
        attempt = Attempt(alert=sent.alert, at=began, seconds=time.monotonic() - began, status=status)
        self.history.append(attempt)
        return attempt.acknowledged

    def _post(self, sent: Sent) -> int:
        """POST on a new connection, as Sentry does."""
        connection = http.client.HTTPConnection(self._url.netloc, timeout=_TIMEOUT_SECONDS)
        if self._url.scheme == "https":
            connection = http.client.HTTPSConnection(self._url.netloc, timeout=_TIMEOUT_SECONDS)
        with closing(connection):
            try:
                connection.request("POST", self._url.path, sent.body, sent.headers())
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                return 0
            return response.status
