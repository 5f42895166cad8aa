"""The timeline of a group in words."""

import pytest

from signalcraft.ui import timeline
from tests.support.builders import at


@pytest.mark.parametrize(
    ("state", "reason", "codes", "text", "detail"),
    [
        ("sent", "acked", ["sent"], "Notification sent to ops", "Acknowledged"),
        ("covered", "acked", [], "Notification to ops not needed: it was no news any more", "Acknowledged"),
        ("pending", "opened", [], "Notification to ops is waiting", "New"),
        (
            "given_up",
            "resolved",
            ["http_500", "timed_out"],
            "Notification to ops failed",
            "Resolved; last of 2 attempts: timed out",
        ),
    ],
)
def test_a_notification_says_to_whom_of_what_and_how_it_went(
    state: str, reason: str, codes: list[str], text: str, detail: str
) -> None:
    row = {
        "receiver": "ops",
        "state": state,
        "reason": reason,
        "tries": len(codes),
        "attempts": [{"code": code} for code in codes],
        "sent_at": None,
        "happened_at": at(0),
        "covered_by_id": None,
    }
    (entry,) = timeline.of({"count": 0}, [], [], [row])
    assert (entry.text, entry.detail, entry.failed) == (text, detail, state == "given_up")
    (entry,) = timeline.of({"count": 0}, [], [], [row | {"state": "covered", "covered_by_id": 7}])
    assert entry.text == "Notification to ops was part of a digest"
