"""The route that Slack calls when a person presses a button of a card.

The group is changed inside the request, as by the API; the card follows through the notifier. A press is answered with
an empty 200, and who cannot be helped is told so alone.
"""

import contextlib
import hashlib
import time
from datetime import UTC, datetime
from typing import Final

import structlog
from flask import Blueprint, g, request
from flask.typing import ResponseReturnValue

from signalcraft import metrics
from signalcraft.api import context, slack_requests
from signalcraft.api.slack_requests import Press
from signalcraft.domain.errors import BadSignature, Conflict, NotFound, QueueUnavailable
from signalcraft.groups import user_updates
from signalcraft.groups.user_updates import GroupUpdate, UpdateFields
from signalcraft.ingest import request as ingest_request
from signalcraft.notify import cards, messages
from signalcraft.notify.slack_buttons import STATUSES, Action, Choice
from signalcraft.storage.audit_log import Actor
from signalcraft.storage.database import session

log = structlog.get_logger(__name__)

#: A payload holds the message with its blocks.
_MAX_BODY_BYTES: Final = 256 * 1024
_REMEMBERED_SECONDS: Final = 600
_GONE: Final = "SignalCraft does not have this group any more."
_TEST: Final = "It works: SignalCraft got what you pressed."

slack = Blueprint("slack", __name__)


@slack.post("/slack/actions")
def apply_action() -> ResponseReturnValue:
    """Apply what a person pressed in Slack."""
    press = _read_press()
    if press is None:
        _report("other", "ignored", None)
        return "", 200
    context.current().rate.hit(f"slack:{press.user_id}")
    with session():
        workspace = cards.find_workspace(
            account=press.account,
            channel=press.channel,
            message=press.message,
            group_id=press.choice.group_id if press.choice else None,
        )
    if workspace is None:
        raise BadSignature
    signature = _signature_digest()
    if press.choice is None or not _is_new(signature):
        _report("other", "repeated" if press.choice else "ignored", press)
        return "", 200
    try:
        outcome, text = _apply(press, press.choice, workspace[0])
    except Exception:
        with contextlib.suppress(QueueUnavailable):
            context.current().slack_presses.forget(signature)  # it may be sent again
        raise
    if text:
        context.current().slack_replies.tell(press.response_url, text)
    _report(press.choice.action.value, outcome, press)
    return "", 200


def _read_press() -> Press | None:
    """Return what was pressed, once the signature is verified.

    Raises:
        NotFound: no secret is configured.
        BadSignature: Slack did not sign the request.
    """
    secrets = context.current().settings.slack_signing_secrets
    if not secrets:
        raise NotFound
    body = ingest_request.read_body(request, max_body_bytes=_MAX_BODY_BYTES)
    slack_requests.verify(
        body,
        signature=request.headers.get(slack_requests.SIGNATURE_HEADER, ""),
        time=request.headers.get(slack_requests.TIME_HEADER, ""),
        secrets=secrets,
        now=time.time(),
    )
    return slack_requests.parse(body)


def _apply(press: Press, choice: Choice, workspace_id: int | None) -> tuple[str, str]:
    """Change the group; return what came of it, and what the person is told, if anything."""
    if choice.action is Action.TEST:
        return "tested", _TEST
    if workspace_id is None or choice.group_id is None:
        return "refused", _GONE
    now = datetime.now(UTC)
    fields: UpdateFields = {"status": STATUSES[choice.action]}
    if choice.snooze is not None:
        fields["snoozed_until"] = now + choice.snooze
    update = GroupUpdate(fields=fields, by=press.by, at=now, actor=Actor.SLACK)
    refusal = ""
    with session():
        try:
            if user_updates.update_group(workspace_id, choice.group_id, update):
                context.current().wake_notifier()
                return "changed", ""
        except Conflict as conflict:
            refusal = conflict.detail
        except NotFound:
            return "refused", _GONE
        group = cards.group(workspace_id, choice.group_id, now=now)
    said = messages.already(group, now) if group else _GONE
    return ("refused", f"{said} {refusal}") if refusal else ("unchanged", said)


def _signature_digest() -> str:
    signature = request.headers.get(slack_requests.SIGNATURE_HEADER, "")
    return hashlib.sha256(signature.encode("utf-8", "surrogatepass")).hexdigest()


def _is_new(signature: str) -> bool:
    """Return whether this signature is new. Without Redis each is: the actions are idempotent."""
    with contextlib.suppress(QueueUnavailable):
        return context.current().slack_presses.use(signature, seconds=_REMEMBERED_SECONDS)
    return True


def _report(action: str, outcome: str, press: Press | None) -> None:
    """Log and count one verified request."""
    metrics.count("signalcraft_slack_actions_total", action=action, outcome=outcome)
    choice = press.choice if press else None
    log.info(
        "slack action",
        stage="slack",
        action=action,
        outcome=outcome,
        group_id=choice.group_id if choice else None,
        user=press.user_id if press else None,
        duration_ms=round((time.perf_counter() - g.started_at) * 1000, 2),
    )
