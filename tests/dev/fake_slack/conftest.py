from collections.abc import Iterator

import pytest
from slack_sdk import WebClient

from signalcraft.dev import fake_slack
from signalcraft.dev.fake_slack import FakeSlack


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    with fake_slack.serving() as serving:
        yield serving


@pytest.fixture
def client(slack: FakeSlack) -> WebClient:
    """Slack's own client."""
    return WebClient(token=slack.token, base_url=slack.url, retry_handlers=[], timeout=10)
