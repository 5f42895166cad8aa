"""The fake's limits are Slack's: what it refuses, slack_sdk's models refuse, and what they accept, it accepts."""

import string
from typing import Any

import pytest
from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models import blocks as models

from signalcraft.dev.fake_slack import blocks


def _plain(length: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": "x" * length}


def _actions(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"type": "actions", "elements": list(elements)}


def _button(name: str = "a", *, text: int = 5, value: int = 5) -> dict[str, Any]:
    return {"type": "button", "action_id": name, "text": _plain(text), "value": "v" * value}


def _select(options: int, *, text: int = 5) -> dict[str, Any]:
    listed = [{"text": _plain(text), "value": str(number)} for number in range(options)]
    return {"type": "static_select", "action_id": "a", "placeholder": _plain(5), "options": listed}


#: What is just allowed, and what is one too many.
EDGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "header", "text": _plain(150)}, {"type": "header", "text": _plain(151)}),
    ({"type": "section", "text": _plain(3_000)}, {"type": "section", "text": _plain(3_001)}),
    ({"type": "section", "fields": [_plain(2_000)] * 10}, {"type": "section", "fields": [_plain(1)] * 11}),
    (_actions(*map(_button, string.ascii_letters[:25])), _actions(*map(_button, string.ascii_letters[:26]))),
    (_actions(_button(value=2_000)), _actions(_button(value=2_001))),
    (_actions(_button(text=75)), _actions(_button(text=76))),
    (_actions(_select(100)), _actions(_select(101))),
    ({"type": "context", "elements": [_plain(1)] * 10}, {"type": "context", "elements": [_plain(1)] * 11}),
    ({"type": "divider", "block_id": "x" * 255}, {"type": "divider", "block_id": "x" * 256}),
]


@pytest.mark.parametrize(("allowed", "refused"), EDGES)
def test_a_limit_is_where_slacks_models_have_it(allowed: dict[str, Any], refused: dict[str, Any]) -> None:
    assert blocks.problems_of_blocks([allowed]) == []
    assert len(blocks.problems_of_blocks([refused])) == 1
    assert models.Block.parse(allowed).to_dict()["type"] == allowed["type"]  # type: ignore[union-attr]
    with pytest.raises(SlackObjectFormationError):
        models.Block.parse(refused).to_dict()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ([{"type": "divider"}] * 51, "length must be between 0 and 50 [json-pointer:/blocks]"),
        ([{"type": "divider", "block_id": "a"}] * 2, "block_id a is not unique"),
        ([_actions(_button(), _button())], "action_id a is not unique"),
        ([{"type": "section"}], "missing required field: text [json-pointer:/blocks/0]"),
        (
            [_actions(_select(1, text=76))],
            "length must be between 1 and 75 [json-pointer:/blocks/0/elements/0/options/0/text/text]",
        ),
        ([{"type": "video"}], "unsupported type: video [json-pointer:/blocks/0/type]"),
        (["text"], "unsupported type: none [json-pointer:/blocks/0/type]"),
        ([{"type": "divider", "text": "x"}], "unknown field [json-pointer:/blocks/0/text]"),
        (
            [{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}],
            "must be one of: plain_text [json-pointer:/blocks/0/text/type]",
        ),
        (
            [{"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [{"type": "text"}]}]}],
            "missing data for required field [json-pointer:/blocks/0/elements/0/elements/0/text]",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(wrong: list[Any], problem: str) -> None:
    assert blocks.problems_of_blocks(wrong) == [problem]
