"""Slack's limits on blocks and attachments, as marshmallow schemas: https://docs.slack.dev/reference/block-kit.

Blocks and elements that have no schema here are refused as Slack refuses unknown ones.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from marshmallow import INCLUDE, Schema, ValidationError, fields, validate

MAX_BLOCKS: Final = 50
MAX_ATTACHMENTS: Final = 100
#: Undocumented; what users measured is between 12,000 and 13,300 (slackapi/bolt-js#2509).
MAX_TEXT_OF_BLOCKS: Final = 12_000


def _text(limit: int, *types: str, required: bool = True) -> fields.Nested:
    return fields.Nested(
        Schema.from_dict(
            {
                "type": fields.String(required=True, validate=validate.OneOf(types)),
                "text": fields.String(required=True, validate=validate.Length(1, limit)),
                "emoji": fields.Boolean(),
                "verbatim": fields.Boolean(),
            }
        ),
        required=required,
    )


def _string(limit: int, *, minimum: int = 0, required: bool = False) -> fields.String:
    return fields.String(required=required, validate=validate.Length(minimum, limit))


class _OneOf(fields.Field[dict[str, Any]]):
    """An object that one of several schemas takes, by its ``type``."""

    def __init__(self, schemas: Mapping[str, type[Schema]], *, required: bool = False) -> None:
        super().__init__(required=required)
        self._schemas = schemas

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> dict[str, Any]:  # noqa: ANN401, ARG002 - marshmallow's signature
        kind = value.get("type") if isinstance(value, Mapping) else None
        if kind not in self._schemas:
            raise ValidationError({"type": [f"unsupported type: {kind}"]})
        return dict(self._schemas[str(kind)]().load(value))


def _list(schemas: Mapping[str, type[Schema]], minimum: int, maximum: int) -> fields.List[Any]:
    return fields.List(_OneOf(schemas), required=True, validate=validate.Length(minimum, maximum))


class _Typed(Schema):
    type = fields.String(required=True)


class _Element(_Typed):
    action_id = _string(255, minimum=1)


class _Button(_Element):
    text = _text(75, "plain_text")
    value = _string(2_000)
    url = _string(3_000)
    style = fields.String(validate=validate.OneOf(["primary", "danger"]))
    accessibility_label = _string(75)
    confirm = fields.Dict()


class _Option(Schema):
    text = _text(75, "plain_text", "mrkdwn")
    value = _string(150, required=True)
    description = _text(75, "plain_text", required=False)


class _Select(_Element):
    placeholder = _text(150, "plain_text", required=False)
    options = fields.List(fields.Nested(_Option), required=True, validate=validate.Length(1, 100))
    initial_option = fields.Nested(_Option)
    focus_on_load = fields.Boolean()
    confirm = fields.Dict()


class _Overflow(_Element):
    options = fields.List(fields.Nested(_Option), required=True, validate=validate.Length(1, 5))
    confirm = fields.Dict()


class _Style(Schema):
    bold = fields.Boolean()
    italic = fields.Boolean()
    strike = fields.Boolean()
    code = fields.Boolean()


class _Styled(_Typed):
    style = fields.Nested(_Style)


class _TextElement(_Styled):
    text = fields.String(required=True, validate=validate.Length(1))


class _LinkElement(_Styled):
    url = fields.String(required=True, validate=validate.Length(1))
    text = fields.String()
    unsafe = fields.Boolean()


class _EmojiElement(_Styled):
    name = fields.String(required=True)
    unicode = fields.String()


class _DateElement(_Styled):
    timestamp = fields.Integer(required=True, strict=True)
    format = fields.String(required=True)
    fallback = fields.String()
    url = fields.String()


class _UserElement(_Styled):
    user_id = fields.String(required=True)


class _GroupElement(_Styled):
    usergroup_id = fields.String(required=True)


class _ChannelElement(_Styled):
    channel_id = fields.String(required=True)


class _BroadcastElement(_Styled):
    range = fields.String(required=True, validate=validate.OneOf(["here", "channel", "everyone"]))


_INLINE: Final[Mapping[str, type[Schema]]] = {
    "text": _TextElement,
    "link": _LinkElement,
    "emoji": _EmojiElement,
    "date": _DateElement,
    "user": _UserElement,
    "usergroup": _GroupElement,
    "channel": _ChannelElement,
    "broadcast": _BroadcastElement,
}


class _RichSection(_Typed):
    elements = _list(_INLINE, 0, 1_000)
    border = fields.Integer()


class _RichList(_Typed):
    elements = _list({"rich_text_section": _RichSection}, 1, 1_000)
    style = fields.String(required=True, validate=validate.OneOf(["bullet", "ordered"]))
    indent = fields.Integer()
    border = fields.Integer()


_RICH: Final[Mapping[str, type[Schema]]] = {
    "rich_text_section": _RichSection,
    "rich_text_preformatted": _RichSection,
    "rich_text_quote": _RichSection,
    "rich_text_list": _RichList,
}
_ELEMENTS: Final[Mapping[str, type[Schema]]] = {"button": _Button, "static_select": _Select, "overflow": _Overflow}
_CONTEXT: Final[Mapping[str, type[Schema]]] = {
    kind: Schema.from_dict(
        {
            "type": fields.String(),
            "text": _string(3_000, minimum=1, required=True),
            "emoji": fields.Boolean(),
            "verbatim": fields.Boolean(),
        }
    )
    for kind in ("mrkdwn", "plain_text")
}


class _Block(_Typed):
    block_id = _string(255, minimum=1)


class _Header(_Block):
    text = _text(150, "plain_text")


#: Not a class: its key ``fields`` would hide marshmallow's.
_Section: Final = _Block.from_dict(
    {
        "text": _text(3_000, "plain_text", "mrkdwn", required=False),
        "fields": fields.List(_text(2_000, "plain_text", "mrkdwn"), validate=validate.Length(1, 10)),
        "accessory": _OneOf(_ELEMENTS),
        "expand": fields.Boolean(),
    }
)


class _Context(_Block):
    elements = _list(_CONTEXT, 1, 10)


class _Actions(_Block):
    elements = _list(_ELEMENTS, 1, 25)


class _RichText(_Block):
    elements = _list(_RICH, 1, 1_000)


_BLOCKS: Final[Mapping[str, type[Schema]]] = {
    "header": _Header,
    "section": _Section,
    "context": _Context,
    "actions": _Actions,
    "divider": _Block,
    "rich_text": _RichText,
}


class _Blocks(Schema):
    blocks = fields.List(_OneOf(_BLOCKS), validate=validate.Length(0, MAX_BLOCKS))


class _Attachments(Schema):
    attachments = fields.List(
        fields.Nested(
            Schema.from_dict({"blocks": fields.List(_OneOf(_BLOCKS), validate=validate.Length(0, MAX_BLOCKS))}),
            unknown=INCLUDE,
        )
    )


def problems_of_blocks(blocks: Sequence[Any]) -> list[str]:
    """Return what Slack refuses of a message's blocks, each with its place."""
    found = [*_problems(_Blocks, {"blocks": blocks})]
    return found or [*_repeated("block_id", blocks)] or [*_sections(blocks)]


def problems_of_attachments(attachments: Sequence[Any]) -> list[str]:
    """Return what Slack refuses of a message's attachments, each with its place."""
    return [*_problems(_Attachments, {"attachments": attachments})] or [
        problem for attachment in attachments for problem in problems_of_blocks(attachment.get("blocks", ()))
    ]


def length_of_text(blocks: Any) -> int:  # noqa: ANN401 - JSON
    """Return the number of characters of all texts in ``blocks``."""
    if isinstance(blocks, Mapping):
        return sum(
            len(value) if key == "text" and isinstance(value, str) else length_of_text(value)
            for key, value in blocks.items()
        )
    if isinstance(blocks, Sequence) and not isinstance(blocks, str):
        return sum(map(length_of_text, blocks))
    return 0


def _problems(schema: type[Schema], value: Mapping[str, Any]) -> Iterator[str]:
    try:
        schema().load(value)
    except ValidationError as error:
        yield from _flat(error.messages)


def _flat(messages: Any, place: str = "") -> Iterator[str]:  # noqa: ANN401 - nested, as marshmallow gives them
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            yield from _flat(inner, f"{place}/{key}")
    else:
        yield from (f"{str(message).rstrip('.').lower()} [json-pointer:{place}]" for message in messages)


def _repeated(key: str, blocks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Find ids that are not unique: of blocks in a message, of actions in a block."""
    counts = Counter(block[key] for block in blocks if key in block)
    yield from (f"{key} {name} is not unique" for name, count in counts.items() if count > 1)
    for block in blocks:
        if block.get("type") == "actions":
            yield from _repeated("action_id", block["elements"])


def _sections(blocks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for number, block in enumerate(blocks):
        if block["type"] == "section" and not ({"text", "fields"} & block.keys()):
            yield f"missing required field: text [json-pointer:/blocks/{number}]"
