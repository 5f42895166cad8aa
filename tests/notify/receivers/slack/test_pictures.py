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
from playwright.sync_api import Browser

from signalcraft.dev import fake_slack
from signalcraft.dev.fake_slack import FakeSlack
from signalcraft.notify import messages
from signalcraft.notify.contract import Message, OutcomeKind, Reply, Secret
from signalcraft.notify.receivers.slack import SlackReceiver
from tests.support import ROOT
from tests.support.browser import browser
from tests.support.browsing import visit
from tests.support.builders import at
from tests.support.messages import PUBLIC_URL, digest_message, group_row, notification_row

MAX_BYTES = 100_000
WIDTH = 780

_BY = {"status_by": "ann (U1)", "status_at": at(4), "status_actor": "slack"}
#: The fields of the group on each card.
CARDS: Mapping[str, dict[str, Any]] = {
    "open": {},
    "acked": {"status": "ack", "status_to": "ack", **_BY},
    "snoozed": {"status": "snoozed", "status_to": "snoozed", "snoozed_until": at(4) + timedelta(hours=4), **_BY},
    "resolved": {"status": "resolved", "status_to": "resolved", "resolved_at": at(9), **_BY},
}
#: The ten groups that the digest names: title, project, severity, count.
WORST = (
    ("OutOfMemoryError: Java heap space", "payments", "critical", 212),
    ("PaymentTimeout: card gateway did not answer within 5.0 s", "payments", "critical", 96),
    ("ConnectionRefusedError: inventory:5432", "catalog", "high", 88),
    ("KeyError: 'price'", "catalog", "high", 41),
    ("DeadlockDetected: process 4711 waits for ShareLock", "orders", "high", 33),
    ("IntegrityError: duplicate key in orders_pkey", "orders", "high", 12),
    ("TemplateSyntaxError: unknown tag 'pricee'", "shop", "med", 9),
    ("TypeError: undefined is not a function", "shop", "med", 8),
    ("SlowQuery: SELECT over cart_item", "cart", "med", 3),
    ("DeprecationWarning: old client", "cart", "low", 2),
)
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


def _digest() -> Message:
    message = digest_message()
    assert message.digest is not None
    worst = [
        group_row(id=number, title=title, project=project, severity=severity, count=count)
        for number, (title, project, severity, count) in enumerate(WORST, start=1)
    ]
    return replace(message, digest=replace(message.digest, worst=worst))


def _post(slack: FakeSlack, state: str) -> None:
    """Have a receiver tell the fake of a group in ``state``."""
    receiver = SlackReceiver("alerts", Secret(slack.token), "C0ALERTS", Secret(slack.url))
    posted = receiver.send(_digest() if state == "digest" else _card())
    further = []
    if state == "thread":
        worse = _card("escalated", ts=posted.external_id, severity="critical", count=204)
        further = [worse, replace(worse, text="Its severity is critical now.", reply=Reply(is_broadcast=True))]
    elif CARDS.get(state):
        further = [_card(state, ts=posted.external_id, **CARDS[state])]
    outcomes = [posted, *map(receiver.send, further)]
    assert {(outcome.kind, outcome.code) for outcome in outcomes} == {(OutcomeKind.SENT, "")}


@pytest.mark.parametrize("state", STATES)
def test_a_card_is_drawn_in_each_state(slack: FakeSlack, chromium: Browser, folder: Path, state: str) -> None:
    _post(slack, state)
    visitor = visit(chromium, slack.root.rstrip("/"), width=WIDTH)
    page = visitor.open("/channels/alerts")
    if state == "thread":
        page.locator("summary").click()
        page.mouse.move(0, 0)
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        path = folder / f"slack-{state}-{scheme}.png"
        page.locator("[data-live]").screenshot(path=path)
        assert 1_000 < path.stat().st_size < MAX_BYTES
    visitor.check()
    visitor.context.close()
