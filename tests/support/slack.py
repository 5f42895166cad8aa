"""A receiver of the kind slack with the fake behind it, and what the channel shows."""

from collections.abc import Iterator, Mapping
from typing import Any

from signalcraft.dev.fake_slack import FakeSlack, Message
from signalcraft.domain.notifications import default_rule
from signalcraft.notify.config import NotifyConfig, load
from signalcraft.notify.contract import Receiver
from signalcraft.notify.delivery import Timing
from signalcraft.notify.notifier import Notifier

PUBLIC_URL = "https://alerts.example.org"
#: Of the last element that a card shows.
_ACTIONS = "actions"
CONFIG = """
storm = {storm}
[receivers.ops]
kind = "slack"
token = "env:BOT_TOKEN"
channel = "C0ALERTS"
[[routes]]
name = "all"
to = ["ops"]
update_every = "{update_every}"
"""


def config_of(slack: FakeSlack, *, storm: int = 0, update_every: str = "0s") -> NotifyConfig:
    """The configuration that an operator would write, without Slack's pace."""
    toml = CONFIG.format(storm=storm, update_every=update_every)
    config = load(toml, {"BOT_TOKEN": slack.token, "SLACK_API_URL": slack.url})
    config.receivers["ops"].pace = 0.0
    return config


def receiver_of(slack: FakeSlack) -> Receiver:
    return config_of(slack).receivers["ops"]


def notifier_of(slack: FakeSlack, timing: Timing, **options: Any) -> Notifier:  # noqa: ANN401 - of the configuration
    return Notifier(config_of(slack, **options), [default_rule], public_url=PUBLIC_URL, timing=timing)


def texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    """Yield all that people read in blocks and attachments."""
    if isinstance(value, Mapping):
        if isinstance(value.get("text"), str):
            yield value["text"]
        for key, inner in value.items():
            if key != "options":
                yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)


def read(message: Message) -> str:
    """All that people read in a message."""
    return "\n".join(texts(list(message.all_blocks))) or message.text


def buttons(message: Message) -> list[str]:
    return [element["action_id"] for _, element in message.actions]


def cards(slack: FakeSlack) -> dict[int, list[str]]:
    """What the channel shows of each group: its buttons, for each message that has some. Tests have none."""
    shown: dict[int, list[str]] = {}
    for message in slack.messages():
        for _, element in message.actions:
            value = element.get("value") or element["options"][0]["value"]
            if value != "test":
                shown.setdefault(int(value.partition(":")[0]), []).append(",".join(buttons(message)))
                break
    return shown
