"""Channels and messages of the fake, as Slack keeps them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from signalcraft.dev.fake_slack.markup import Reference, references

TEAM_ID: Final = "T0FAKE"
APP_ID: Final = "A0FAKE"
BOT_ID: Final = "B0FAKE"
BOT_USER_ID: Final = "U0BOT"


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message as it is now, or as a client still shows it: pressing an old one presses its old buttons.

    ``arguments`` are those of the request that made it so.
    """

    channel_id: str
    ts: str
    arguments: Mapping[str, Any] = field(repr=False)
    edited_ts: str | None = None
    edits: int = 0

    @property
    def text(self) -> str:
        """Return the text, which is shown in notifications alone if there are blocks."""
        return str(self.arguments.get("text") or "")

    @property
    def blocks(self) -> Sequence[Mapping[str, Any]]:
        """Return the blocks of the message itself."""
        return self.arguments.get("blocks") or ()

    @property
    def attachments(self) -> Sequence[Mapping[str, Any]]:
        """Return the attachments."""
        return self.arguments.get("attachments") or ()

    @property
    def metadata(self) -> Mapping[str, Any] | None:
        """Return the metadata that the app put on the message."""
        return self.arguments.get("metadata")

    @property
    def thread_ts(self) -> str | None:
        """Return the ``ts`` of the message to which this one is a reply."""
        return self.arguments.get("thread_ts") or None

    @property
    def is_broadcast(self) -> bool:
        """Return whether a reply is shown in the channel too."""
        return self.thread_ts is not None and str(self.arguments.get("reply_broadcast")).lower() in {"1", "true"}

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        """Return all that Slack's parser finds in the texts."""
        return references(self.arguments)

    @property
    def pings(self) -> list[Reference]:
        """Return whom the message notifies."""
        return [reference for reference in self.references if reference.is_ping]

    @property
    def links(self) -> list[Reference]:
        """Return the links in the texts."""
        return [reference for reference in self.references if not reference.is_ping]

    @property
    def all_blocks(self) -> list[Mapping[str, Any]]:
        """Return the blocks of the message and of its attachments."""
        return [*self.blocks, *(block for attachment in self.attachments for block in attachment.get("blocks") or ())]

    @property
    def actions(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Return all that can be pressed, with the id of its block."""
        for number, block in enumerate(self.all_blocks):
            elements = [*(block.get("elements") or ()), *([block["accessory"]] if "accessory" in block else ())]
            block_id = str(block.get("block_id") or f"block-{number}")
            yield from ((block_id, element) for element in elements if "action_id" in element)

    def as_json(self, *, with_metadata: bool = False) -> dict[str, Any]:
        """Return the message as Slack's answers have it."""
        found: dict[str, Any] = {
            "type": "message",
            "user": BOT_USER_ID,
            "bot_id": BOT_ID,
            "app_id": APP_ID,
            "team": TEAM_ID,
            "ts": self.ts,
            "text": self.text,
        }
        for key in ("blocks", "attachments", "thread_ts"):
            if self.arguments.get(key):
                found[key] = self.arguments[key]
        if self.edited_ts:
            found["edited"] = {"user": BOT_USER_ID, "ts": self.edited_ts}
        if self.metadata and with_metadata:
            found["metadata"] = self.metadata
        return found


@dataclass(frozen=True, kw_only=True)
class Ephemeral:
    """A message that one person alone sees; ``ts`` is that of the message under which it is shown."""

    channel_id: str
    user: str
    text: str
    ts: str | None = None


@dataclass(kw_only=True)
class Channel:
    """A channel. ``is_member``: the app was invited, without which it cannot read, nor write to a private one."""

    name: str
    id: str
    is_private: bool = False
    is_archived: bool = False
    is_member: bool = True
    by_ts: dict[str, Message] = field(default_factory=dict, repr=False)

    @property
    def messages(self) -> list[Message]:
        """Return the messages, replies too, oldest first."""
        return list(self.by_ts.values())

    @property
    def shown(self) -> list[Message]:
        """Return what the channel shows: no reply but those that were broadcast."""
        return [message for message in self.messages if message.thread_ts is None or message.is_broadcast]

    def replies(self, ts: str) -> list[Message]:
        """Return the replies of a thread."""
        return [message for message in self.messages if message.thread_ts == ts]
