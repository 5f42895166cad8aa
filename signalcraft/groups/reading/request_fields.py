"""Request fields that marshmallow does not have, and validators of text and links."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from marshmallow import ValidationError, fields, validate

from signalcraft.groups.reading.filters import ValueFilter
from signalcraft.groups.reading.queries import Order, SortKey

MAX_TEXT_LENGTH: Final = 200
MAX_URL_LENGTH: Final = 2_000
MAX_NOTE_LENGTH: Final = 500
MAX_VALUES: Final = 50

#: Invisible characters that are none of these come in what senders call things, and can be asked for: the joiners of
#: an emoji, a mark of direction.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class ChoiceField(fields.Field[ValueFilter]):
    """A filter: several values are alternatives, ``!`` before a value excludes it."""

    def __init__(self, *, of: Sequence[str] | None = None) -> None:
        """``of`` are the allowed values; None allows any."""
        super().__init__(load_default=ValueFilter)
        self.of = of

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> ValueFilter:  # noqa: ANN401, ARG002 - marshmallow's signature
        texts = value if isinstance(value, list) else [value]
        if not 0 < len(texts) <= MAX_VALUES:
            raise ValidationError(f"Must be 1 to {MAX_VALUES} values.")
        if any(not isinstance(text, str) or not is_name(text.removeprefix("!")) for text in texts):
            raise ValidationError("A value is empty, too long, no text, or holds control characters.")
        if self.of is not None and not {text.removeprefix("!") for text in texts} <= set(self.of):
            raise ValidationError(f"Must be one of: {', '.join(self.of)}.")
        return ValueFilter(
            include=tuple(text for text in texts if not text.startswith("!")),
            exclude=tuple(text[1:] for text in texts if text.startswith("!")),
        )


class TagField(ChoiceField):
    """A filter of tags, each ``name=value``."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **options: Any) -> ValueFilter:  # noqa: ANN401 - marshmallow's signature
        found = super()._deserialize(value, attr, data, **options)
        if any("=" not in tag for tag in (*found.include, *found.exclude)):
            raise ValidationError("Must be a tag's name, = and its value, such as release=1.4.2.")
        return found


class SortField(fields.Field[Order]):
    """``last_seen`` for ascending, ``-last_seen`` for descending."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> Order:  # noqa: ANN401, ARG002 - marshmallow's signature
        name = str(value).removeprefix("-")
        if name not in tuple(SortKey):
            raise ValidationError(f"Must be one of: {', '.join(SortKey)}, or one of them after a minus sign.")
        return Order(key=SortKey(name), descending=str(value).startswith("-"))


class MomentField(fields.AwareDateTime):
    """A time with its UTC offset, converted to UTC; a date alone is its beginning in UTC."""

    default_error_messages = dict.fromkeys(
        ("invalid", "invalid_awareness", "format"),
        "Must be a time with its offset, such as 2026-03-01T12:00:00Z, or a date, such as 2026-03-01.",
    )

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **options: Any) -> datetime:  # noqa: ANN401 - marshmallow's signature
        if not isinstance(value, str):
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE)
        if _DATE.fullmatch(value):
            value += "T00:00:00Z"
        try:
            return super()._deserialize(value, attr, data, **options).astimezone(UTC)
        except OverflowError as error:  # the year 1 or 9999, at an offset beyond it
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE) from error


def is_name(text: str) -> bool:
    """Return whether ``text`` may be the name of something: short, on one line, and storable in PostgreSQL."""
    return 0 < len(text) <= MAX_TEXT_LENGTH and not _CONTROLS.search(text)


def check_text(text: str) -> None:
    """Check that ``text`` may be the name of something.

    Raises:
        marshmallow.ValidationError: it is not.
    """
    if not is_name(text):
        raise ValidationError(f"Must be 1 to {MAX_TEXT_LENGTH} characters, none of them a control character.")


def check_note(text: str) -> None:
    """Check that ``text`` may be a note: short and on one line; an empty one is none.

    Raises:
        marshmallow.ValidationError: it may not.
    """
    if len(text) > MAX_NOTE_LENGTH or _CONTROLS.search(text):
        raise ValidationError(f"Must be at most {MAX_NOTE_LENGTH} characters, none of them a control character.")


def check_link(text: str) -> None:
    """Check that ``text`` is a safe URL.

    It must be safe to show as a link.

    Raises:
        marshmallow.ValidationError: it is no URL, or its scheme is not http or https.
    """
    if len(text) > MAX_URL_LENGTH or not text.isprintable():
        raise ValidationError(f"Must be a URL of at most {MAX_URL_LENGTH} printable characters.")
    validate.URL(schemes={"http", "https"}, require_tld=False)(text)
