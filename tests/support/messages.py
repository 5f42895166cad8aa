"""Messages as the notifier renders them, of rows as the database has them."""

from datetime import timedelta
from typing import Any

from signalcraft.notify import messages
from signalcraft.notify.contract import Message
from tests.support.builders import at

PUBLIC_URL = "https://alerts.example.org"
#: Texts that ping somebody, format, inject or break in one of the receivers.
HOSTILE = {
    "slack": "<!channel> <!here|x> <@U1> <#C1> <https://evil.example|click> &lt;!channel&gt;",
    "mentions": "@everyone @here @channel <@&123> <@!123> @ann",
    "markdown": "*b* _i_ ~s~ `c` [click](https://evil.example) ![x](https://evil.example/x.png)",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)> \"'& </style>{title}%s",
    "headers": "a\r\nBcc: evil@example.org\r\n\r\nbody\nX-Evil: 1\x0b\x0c\x1c\u2028\u2029Y",
    "nul": "a\x00b\x1b[31m\x07",
    "right to left": "\u202etxt.exe\u2066 zero\u200bwidth\ufeff",
    "4 bytes": "\U0001f4a9\U00010348 \u0939\u093f\u0928\u094d\u0926\u0940 e\u0301",
    "long word": "\u00fc" * 3_000,
    "100 kB": "word " * 20_000,
    "empty": "",
}


def group_row(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - columns
    return {
        "id": 41,
        "group_key": "0123456789abcdef" * 4,
        "source": "sentry",
        "project": "payments",
        "environment": "prod",
        "severity": "high",
        "status": "open",
        "title": "TypeError: cannot read property 'amount' of undefined",
        "count": 41,
        "first_seen_at": at(0),
        "last_seen_at": at(6),
        "resolved_at": None,
        "fingerprint": "issue:1",
        "issue_id": "1",
        "link": "https://sentry.io/organizations/acme/issues/1/",
        "assignee_user_id": None,
        "runbook_url": None,
        "snoozed_until": None,
        "previous_group_id": None,
    } | fields


def notification_row(reason: str = "opened", **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - columns
    return {
        "id": 7,
        "key": "of-the-tests",
        "tries": 0,
        "mode": "event",
        "reason": reason,
        "title": "",
        "is_test": False,
        "told_before": None,
        "happened_at": at(0),
        "external_id": None,
        "external_channel": None,
    } | fields


def group_message(reason: str = "opened", *, minute: float = 7, mode: str = "event", **fields: Any) -> Message:  # noqa: ANN401 - columns
    row = notification_row(reason, mode=mode, is_test=reason == "test")
    return messages.of_group(row, group_row(**fields), attempted_at=at(minute), public_url=PUBLIC_URL)


def trouble_message(title: str = "Receiver ops is broken (http_404): its messages wait.") -> Message:
    row = notification_row("receiver_broken", title=title)
    return messages.of_trouble(row, attempted_at=at(7))


def own_test_message() -> Message:
    row = notification_row("test", title="A test message of SignalCraft", is_test=True)
    return messages.of_trouble(row, attempted_at=at(7))


def digest_message(groups: int = 37, **fields: Any) -> Message:  # noqa: ANN401 - columns
    covered = [group_row(**{"id": number, "title": f"Problem {number}"} | fields) for number in range(1, groups + 1)]
    resolved = sum(group["status"] == "resolved" for group in covered)
    statuses = {group["status"] for group in covered}
    since = min(group["first_seen_at"] for group in covered)
    return messages.of_digest(
        notification_row("digest", mode="digest"),
        {
            "opened": groups - resolved,
            "resolved": resolved,
            "status": min(statuses, key=["open", "ack", "resolved"].index),
            "since": since,
        },
        covered[: messages.DIGEST_GROUPS],
        attempted_at=at(7),
        public_url=PUBLIC_URL,
    )


def every_form() -> dict[str, Message]:
    """A message of each form."""
    later = at(9)
    return {
        "opened": group_message(),
        "acked": group_message("acked", status="ack", assignee_user_id="ann"),
        "snoozed": group_message("snoozed", status="snoozed", snoozed_until=at(0) + timedelta(hours=4)),
        "resolved": group_message("resolved", status="resolved", resolved_at=later, minute=9),
        "late": group_message("opened", status="resolved", resolved_at=later, minute=30),
        "once": group_message(count=1),
        "own reason": group_message("paged by a rule", runbook_url="https://wiki.example.org/payments"),
        "test of a group": group_message("test"),
        "digest": digest_message(),
        "digest of one": digest_message(1, status="resolved"),
        "trouble": trouble_message(),
        "test": own_test_message(),
    }
