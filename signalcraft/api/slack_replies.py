"""Tell one person in Slack why a press changed nothing, by the URL that came with it.

One thread sends, and few messages wait for it: a Slack that hangs costs no request its thread, and what is too much is
dropped. Even a signed URL is called only on Slack's own hosts.
"""

import html
import queue
import threading
from typing import Final
from urllib.parse import urlsplit

import orjson
import structlog

from signalcraft import http_client
from signalcraft.http_client import ServerUnreachable
from signalcraft.resilience import start_thread

log = structlog.get_logger(__name__)

_MAX_WAITING: Final = 100
_MAX_URL: Final = 1_000
_JSON: Final = {"Content-Type": "application/json"}


class SlackReplies:
    """Sends messages that one person alone sees."""

    def __init__(self, api_url: str) -> None:
        """Create it; ``api_url`` is that of Slack's Web API. The thread is started by the first message."""
        scheme, host = urlsplit(api_url)[:2]
        self._origins = {(scheme, host), (scheme, f"hooks.{host}")}
        self._waiting: queue.Queue[tuple[str, str]] = queue.Queue(_MAX_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def tell(self, response_url: str, text: str) -> None:
        """Send ``text`` to ``response_url`` soon, unless that is not Slack's or too much waits."""
        if not self._is_slack(response_url):
            log.warning("reply not sent", stage="slack", code="url_not_of_slack")
            return
        try:
            self._waiting.put_nowait((response_url, text))
        except queue.Full:
            log.warning("reply not sent", stage="slack", code="too_many_wait")
            return
        with self._lock:
            if self._thread is None:  # not before: threads do not survive a fork
                self._thread = start_thread(self._send_forever, name="slack-replies")

    def _is_slack(self, url: str) -> bool:
        try:
            origin = urlsplit(url)[:2]
        except ValueError:
            return False
        return origin in self._origins and len(url) <= _MAX_URL and url.isascii() and url.isprintable()

    def _send_forever(self) -> None:
        while True:
            url, text = self._waiting.get()
            try:
                response = http_client.post(url, _body(text), _JSON)
                code = "" if response.accepted else f"http_{response.status}"
            except ServerUnreachable:
                code = "unreachable"
            except Exception:  # noqa: BLE001 - one reply must not end the thread
                code = "internal_error"
            if code:
                log.warning("reply not sent", stage="slack", code=code)


def _body(text: str) -> bytes:
    """Return the message: names in it are plain text, in the block and in what Slack shows elsewhere."""
    block = {"type": "section", "text": {"type": "plain_text", "text": text, "emoji": False}}
    shown = {"text": html.escape(text, quote=False), "blocks": [block]}
    return orjson.dumps({"response_type": "ephemeral", "replace_original": False, **shown})
