"""What Slack's error codes mean: https://docs.slack.dev/reference/methods. They come with status 200.

A code that is not here is tried again: it may be one of Slack's troubles, and after a day it is a dead letter.
"""

from collections.abc import Mapping
from typing import Final

from signalcraft.notify.contract import Outcome, OutcomeKind

#: No call will work until somebody mends the app or the token.
_TOKEN: Final = (
    "access_denied",
    "account_inactive",
    "ekm_access_denied",
    "enterprise_is_restricted",
    "invalid_auth",
    "missing_scope",
    "no_permission",
    "not_allowed_token_type",
    "not_authed",
    "org_login_required",
    "team_access_not_granted",
    "team_not_found",
    "token_expired",
    "token_revoked",
    "two_factor_setup_required",
)
#: No message to this channel will work until somebody mends that.
_CHANNEL: Final = (
    "channel_not_found",
    "is_archived",
    "is_inactive",
    "messages_tab_disabled",
    "not_in_channel",
    "restricted_action",
    "restricted_action_non_threadable_channel",
    "restricted_action_read_only_channel",
    "restricted_action_thread_locked",
    "restricted_action_thread_only_channel",
)
#: Slack had trouble after it may have done what was asked.
_UNKNOWN: Final = ("fatal_error", "internal_error", "request_timeout")
_LATER: Final = ("external_channel_migrating", "message_limit_exceeded", "service_unavailable", "team_added_to_org")

#: The message to edit, or to reply to, is no more, or is another app's: it is posted as a new one.
GONE: Final = frozenset(
    {"cant_update_message", "edit_window_closed", "message_not_found", "cannot_reply_to_message", "thread_not_found"}
)
#: The form is refused: the message is sent as plain text.
FORM: Final = frozenset(
    {
        "attachment_payload_limit_exceeded",
        "invalid_attachments",
        "invalid_attachments_format",
        "invalid_blocks",
        "invalid_blocks_format",
        "invalid_metadata_format",
        "invalid_metadata_schema",
        "metadata_must_be_sent_from_app",
        "metadata_too_large",
        "msg_blocks_too_long",
        "msg_too_long",
        "no_text",
        "too_many_attachments",
    }
)
#: Codes by which the look-up of a message says that it is not allowed.
NO_LOOK_UP: Final = frozenset({"missing_scope", "not_in_channel", "not_allowed_token_type", "no_permission"})

SLACK_ERRORS: Final[Mapping[str, OutcomeKind]] = {
    **dict.fromkeys((*_TOKEN, *_CHANNEL), OutcomeKind.BROKEN),
    **dict.fromkeys(_UNKNOWN, OutcomeKind.UNKNOWN),
    **dict.fromkeys(_LATER, OutcomeKind.RETRY),
    **dict.fromkeys(("ratelimited", "rate_limited"), OutcomeKind.RATE_LIMITED),
    **dict.fromkeys((*GONE, *FORM), OutcomeKind.REFUSED),
}


class CallFailedError(Exception):
    """A call failed: ``outcome`` says how, ``error`` is Slack's code, if it gave one."""

    def __init__(self, outcome: Outcome, error: str = "") -> None:
        """Create the error."""
        super().__init__(outcome.code)
        self.outcome, self.error = outcome, error


def unreadable() -> CallFailedError:
    """Return the failure of a call whose answer is none of Slack's: it may have been carried out."""
    return CallFailedError(Outcome(kind=OutcomeKind.UNKNOWN, code="answer_unreadable"))
