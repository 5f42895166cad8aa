"""Send as Sentry sends: a timeout of one second, a redirect counts as success, and mostly no retry.

Facts: ``send_and_save_webhook_request`` and ``ignore_unpublished_app_errors`` in Sentry's
``utils/sentry_apps/webhooks.py``, the retry policy of its task, and the legacy plugin's client.
"""

import http.client
import time
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode, urlsplit

from signalcraft.http_client import Response, as_object
from signalcraft.sources.protocol import Sample
from signalcraft.sources.sentry.signature import Family, family_of

#: Seconds to connect, and to wait for the response: ``sentry-apps.webhook.timeout.sec``, and the older senders' five.
TIMEOUTS = {Family.INTEGRATION: 1.0, Family.SERVICE_HOOK: 5.0, Family.LEGACY: 5.0}

#: ``Retry(times=3)`` is three attempts in all. Sentry waits five minutes between two.
ATTEMPTS = 3

#: Server errors that Sentry does not retry; until 2025 it did.
FINAL_SERVER_ERRORS = frozenset({HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})

_TIMESTAMPS = {Family.INTEGRATION: "Sentry-Hook-Timestamp", Family.SERVICE_HOOK: "X-ServiceHook-Timestamp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request: its id and the response, or why there was none."""

    request_id: str
    status: int | None = None
    body: bytes = b""
    failure: str = ""

    @property
    def response(self) -> Response:
        """Return the response; status 0 if there was none."""
        return Response(self.status or 0, as_object(self.body))

    @property
    def succeeded(self) -> bool:
        """Return whether Sentry counts the attempt as a success.

        It does if ``raise_for_status`` passes, redirects included.
        """
        return self.status is not None and self.status < HTTPStatus.BAD_REQUEST

    @property
    def may_be_retried(self) -> bool:
        """Return whether the retry policy covers the failure.

        It covers no response, and a server error that is not final.
        """
        if self.status is None:
            return True
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR and self.status not in FINAL_SERVER_ERRORS


@dataclass(frozen=True, slots=True, kw_only=True)
class MockSentry:
    """A Sentry that delivers to ``url``.

    ``published``: the integration is on Sentry's marketplace. For all others, among them every internal
    integration, Sentry ignores the error and the delivery is lost. ``pause`` is in seconds, between attempts.
    """

    url: str
    published: bool = False
    pause: float = 0.0

    def deliver(self, sample: Sample) -> tuple[Attempt, ...]:
        """Send ``sample`` as often as Sentry would.

        The last attempt decides whether Sentry counts it as delivered.
        """
        family = family_of({name.lower(): value for name, value in sample.headers.items()})
        retries = self.published if family is Family.INTEGRATION else family is Family.SERVICE_HOOK
        attempts: list[Attempt] = []
        while len(attempts) < (ATTEMPTS if retries else 1):
            if attempts:
                time.sleep(self.pause)
            attempts.append(self._attempt(sample, family))
            if attempts[-1].succeeded or not attempts[-1].may_be_retried:
                break
        return tuple(attempts)

    def _attempt(self, sample: Sample, family: Family) -> Attempt:
        """Send the sample once.

        Request id and timestamp are new; body, signature and idempotency key are the sample's.
        """
        request_id = uuid.uuid4().hex
        stamps = {"Request-ID": request_id}
        if family in _TIMESTAMPS:
            stamps[_TIMESTAMPS[family]] = str(int(time.time()))
        try:
            status, body = self._post(sample, {**sample.headers, **stamps}, TIMEOUTS[family])
        except (OSError, http.client.HTTPException) as error:
            return Attempt(request_id=request_id, failure=type(error).__name__)
        return Attempt(request_id=request_id, status=status, body=body)

    def _post(self, sample: Sample, headers: dict[str, str], timeout: float) -> tuple[int, bytes]:
        """Send a POST request; return the response's status and body.

        Redirects are not followed.
        """
        url = urlsplit(self.url)
        secure = url.scheme == "https"
        connection_type = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = connection_type(url.netloc, timeout=timeout)
        token = urlencode({"token": sample.url_token}) if sample.url_token else ""
        query = "&".join(filter(None, (url.query, token)))
        try:
            connection.request("POST", f"{url.path or '/'}{query and '?' + query}", body=sample.body, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
