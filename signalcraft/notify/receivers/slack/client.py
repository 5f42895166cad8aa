"""Call Slack's Web API with slack_sdk, once, within a time; what goes wrong becomes an outcome.

Imported only where a receiver of this kind is configured: slack_sdk costs memory and a start's time.
"""

import http.client
import logging
import re
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.error import URLError
from urllib.request import HTTPErrorProcessor, Request, build_opener

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from signalcraft.notify.contract import Outcome, OutcomeKind
from signalcraft.notify.receivers.http import by_status, parse_retry_after
from signalcraft.notify.receivers.slack.errors import SLACK_ERRORS, CallFailedError, unreadable

#: For each call; a message may take three of them, within ``TOTAL_SECONDS``.
_CALL_SECONDS: Final = 5
TOTAL_SECONDS: Final = 12.0
#: A page of a channel's history is the longest answer.
_ANSWER_BYTES: Final = 4_000_000
_CODE: Final = re.compile(r"[a-z0-9_]{1,80}")

#: slack_sdk logs answers and errors; ours are logged by the notifier, without what a server says.
_silent: Final = logging.getLogger("signalcraft.slack_sdk")
_silent.disabled = True


class _AnyStatus(HTTPErrorProcessor):
    """Returns each response as it is, so that no redirect is followed: the token would go with it."""

    def http_response(self, request: Request, response: Any) -> Any:  # noqa: ANN401, ARG002 - urllib's signature
        """Return ``response``."""
        return response

    https_response = http_response


class _Client(WebClient):
    """Slack's client without retries and redirects, and with an end for all calls together."""

    def __init__(self, token: str, url: str, until: float) -> None:
        """Create a client for the calls of one message; ``until`` is on the monotonic clock."""
        super().__init__(token=token, base_url=url, retry_handlers=[], timeout=_CALL_SECONDS, logger=_silent)
        self._until = until

    def _perform_urllib_http_request_internal(self, url: str, req: Request) -> dict[str, Any]:  # noqa: ARG002 - slack_sdk's
        left = self._until - time.monotonic()
        if left <= 0:
            raise URLError(TimeoutError())
        with build_opener(_AnyStatus).open(req, timeout=min(self.timeout, left)) as response:
            body = response.read(_ANSWER_BYTES).decode("utf-8", "replace")
            return {"status": response.status, "headers": response.headers, "body": body}


class SlackCalls:
    """The calls that one message needs."""

    def __init__(self, token: str, url: str) -> None:
        """Begin; they end within ``TOTAL_SECONDS``."""
        self._client = _Client(token, url, time.monotonic() + TOTAL_SECONDS)

    def call(self, method: str, **arguments: Any) -> Mapping[str, Any]:  # noqa: ANN401 - JSON
        """Return the answer of ``method``, as slack_sdk names it; ``headers`` among it.

        Raises:
            CallFailedError: it did not work, or may not have.
        """
        try:
            return _answer(getattr(self._client, method)(**arguments))
        except SlackApiError as error:
            raise _failure(error.response) from None
        except URLError as error:
            raise CallFailedError(Outcome(kind=OutcomeKind.RETRY, code=_not_sent(error.reason))) from None
        except TimeoutError:
            raise CallFailedError(Outcome(kind=OutcomeKind.UNKNOWN, code="timeout")) from None
        except (OSError, http.client.HTTPException):
            raise CallFailedError(Outcome(kind=OutcomeKind.UNKNOWN, code="connection_lost")) from None
        except (AttributeError, TypeError, ValueError, RecursionError):  # slack_sdk, of an answer that is no object
            raise unreadable() from None


def _answer(response: Any) -> dict[str, Any]:  # noqa: ANN401 - slack_sdk's
    return {**response.data, "headers": response.headers}


def _not_sent(reason: object) -> str:
    """Return our code for a call that did not get to send anything."""
    kinds = ((socket.gaierror, "dns"), (ssl.SSLError, "tls"), (TimeoutError, "connect_timeout"))
    return next((code for kind, code in kinds if isinstance(reason, kind)), "connect")


def _failure(response: Any) -> CallFailedError:  # noqa: ANN401 - slack_sdk's
    """Return what an answer that is no success means."""
    retry_after = {name.lower(): value for name, value in response.headers.items()}.get("retry-after")
    if response.status_code != http.client.OK:
        return CallFailedError(by_status(response.status_code, b"", retry_after))
    data = response.data if isinstance(response.data, dict) else {}
    error = str(data.get("error", ""))
    if not _CODE.fullmatch(error):
        return unreadable()
    needed = f" {data['needed']}" if error == "missing_scope" and "needed" in data else ""
    outcome = Outcome(
        kind=SLACK_ERRORS.get(error, OutcomeKind.RETRY),
        code=f"slack_{error}" if error in SLACK_ERRORS else "slack_error",
        http_status=http.client.OK,
        detail=f"{error}{needed}",
        retry_after=parse_retry_after(retry_after),
    )
    return CallFailedError(outcome, error)
