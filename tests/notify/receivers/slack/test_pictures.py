"""Each state of a card in the browser, light and dark.

``PICTURES=docs/pictures`` keeps the pictures there, for docs/slack.md. Without it they only have to be drawn without an
error, and small.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, ViewportSize

from signalcraft.dev import fake_slack
from signalcraft.dev.fake_slack import FakeSlack
from signalcraft.notify import messages
from signalcraft.notify.contract import Message, OutcomeKind, Reply, Secret
from signalcraft.notify.receivers.slack import SlackReceiver
from tests.support import ROOT
from tests.support.browser import browser, browsing
from tests.support.builders import at
from tests.support.messages import PUBLIC_URL, digest_message, group_row, notification_row

MAX_BYTES = 100_000
SIZE: ViewportSize = {"width": 780, "height": 900}

_BY = {"status_by": "ann (U1)", "status_at": at(4), "status_actor": "slack"}
#: The fields of the group on each card.
CARDS: Mapping[str, dict[str, Any]] = {
    "open": {},
    "acked": {"status": "ack", "status_to": "ack", **_BY},
    "snoozed": {"status": "snoozed", "status_to": "snoozed", "snoozed_until": at(4) + timedelta(hours=4), **_BY},
    "resolved": {"status": "resolved", "status_to": "resolved", "resolved_at": at(9), **_BY},
}
#: The groups that the digest names.
WORST: Sequence[dict[str, Any]] = [
    {"title": "OutOfMemoryError: Java heap space", "severity": "critical", "count": 212},
    {"title": "PaymentTimeout: card gateway did not answer within 5.0 s", "severity": "critical", "count": 96},
    {"title": "ConnectionRefusedError: inventory:5432", "project": "catalog", "count": 88},
    {"title": "KeyError: 'price'", "project": "catalog", "count": 41},
    {"title": "TemplateSyntaxError: unknown tag 'pricee'", "project": "shop", "severity": "med", "count": 9},
]
SCHEMES: Sequence[Literal["light", "dark"]] = ("light", "dark")
STATES = (*CARDS, "digest", "thread")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as launched:
        yield launched


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    with fake_slack.serving() as serving:
        yield serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return ROOT / os.environ["PICTURES"] if "PICTURES" in os.environ else tmp_path


def _card(reason: str = "opened", *, ts: str | None = None, **group: Any) -> Message:  # noqa: ANN401 - columns
    row = notification_row(reason, mode="card", external_id=ts, external_channel="C0ALERTS" if ts else None)
    return messages.of_group(row, group_row(**group), attempted_at=at(7), public_url=PUBLIC_URL)


def _post(slack: FakeSlack, state: str) -> None:
    """Have a receiver tell the fake of a group in ``state``."""
    receiver = SlackReceiver("alerts", Secret(slack.token), "C0ALERTS", Secret(slack.url))
    if state == "digest":
        message = digest_message()
        assert message.digest is not None
        worst = [group_row(id=number, **fields) for number, fields in enumerate(WORST, start=1)]
        digest = replace(message.digest, worst=worst, urls=[f"{PUBLIC_URL}/alerts/{group['id']}" for group in worst])
        assert receiver.send(replace(message, digest=digest)).kind is OutcomeKind.SENT
        return
    posted = receiver.send(_card())
    assert posted.kind is OutcomeKind.SENT
    if state == "thread":
        again = _card("escalated", ts=posted.external_id, severity="critical", count=204)
        assert receiver.send(again).kind is OutcomeKind.SENT
        reply = replace(again, text="Its severity is critical now.", reply=Reply(is_broadcast=True), key="of-the-reply")
        assert receiver.send(reply).kind is OutcomeKind.SENT
    elif state != "open":
        assert receiver.send(_card(state, ts=posted.external_id, **CARDS[state])).kind is OutcomeKind.SENT


@pytest.mark.parametrize("state", STATES)
def test_a_card_is_drawn_in_each_state(slack: FakeSlack, chromium: Browser, folder: Path, state: str) -> None:
    _post(slack, state)
    with browsing(chromium, viewport=SIZE) as context:
        page = context.new_page()
        page.goto(f"{slack.page}channels/alerts")
        if state == "thread":
            page.locator("summary").click()
            page.mouse.move(0, 0)
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            path = folder / f"slack-{state}-{scheme}.png"
            page.locator("[data-live]").screenshot(path=path)
            assert 1_000 < path.stat().st_size < MAX_BYTES
