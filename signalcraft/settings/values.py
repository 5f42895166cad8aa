"""Values that settings accept: each in the words of its error, with its parser; and how a setting is declared."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from psycopg2 import ProgrammingError
from psycopg2.extensions import parse_dsn
from redis.connection import parse_url

from signalcraft.domain.errors import InvalidSetting
from signalcraft.sources import SOURCES
from signalcraft.sources.protocol import SecretKind, SourceSetting, comma_separated

_ESCAPED = ", special characters of a password written as %XX"
SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_PUBLIC_URL = re.compile(r"(https?://[\w.:-]+(/[^\s?#]*)?)?")
#: A token goes there: in the clear only to this machine.
_API_URL = re.compile(r"(https://[\w.-]+|http://(localhost|127\.0\.0\.1))(:\d{1,5})?(/[^\s?#]*)?")


@dataclass(frozen=True, slots=True)
class Values:
    """What a setting accepts: in words that follow "must be", and its parser, which raises ``ValueError``."""

    words: str
    parse: Callable[[str], Any]


def integer(minimum: int, maximum: int, unit: str = "") -> Values:
    """Accept whole numbers of ``unit`` from ``minimum`` to ``maximum``."""

    def parse(text: str) -> int:
        number = int(text) if re.fullmatch(r"\d{1,18}", text) else -1
        if not minimum <= number <= maximum:
            raise ValueError
        return number

    kind = f"a whole number of {unit}" if unit else "a whole number"
    return Values(f"{kind} from {minimum} to {maximum}", parse)


def one_of(*choices: str) -> Values:
    """Accept one of ``choices``."""
    return matching(re.compile("|".join(choices)), f"one of {', '.join(choices)}")


def matching(pattern: re.Pattern[str], words: str) -> Values:
    """Accept text that ``pattern`` matches whole."""

    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError
        return text

    return Values(words, parse)


def _is_on(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError
    return text == "on"


def _database_url(text: str) -> str:
    """Return the URL with the scheme ``postgresql://``, checked by libpq.

    Heroku writes ``postgres://``: libpq reads it, but Peewee takes it for the name of a database. libpq checks the URL
    here because its error message at connect time quotes the password.
    """
    scheme, separator, rest = text.partition("://")
    if scheme not in ("postgres", "postgresql") or not separator:
        raise ValueError
    url = f"postgresql://{rest}"
    try:
        ports = parse_dsn(url).get("port", "")
    except ProgrammingError:
        raise ValueError from None
    if not re.fullmatch(r"[\d,]*", ports):
        raise ValueError
    return url


def _redis_url(text: str) -> str:
    if not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError
    parse_url(text)  # type: ignore[no-untyped-call] # redis-py's
    return text


def _public_url(text: str) -> str:
    if not _PUBLIC_URL.fullmatch(text):
        raise ValueError
    return text.rstrip("/")


def _api_url(text: str) -> str:
    if not _API_URL.fullmatch(text):
        raise ValueError
    return text.rstrip("/") + "/"


def _fernet_keys(text: str) -> tuple[str, ...]:
    keys = comma_separated(text)
    for key in keys:
        Fernet(key)
    return keys


def _pairs(text: str) -> Mapping[str, str]:
    pairs = [item.partition("=") for item in comma_separated(text)]
    if any(not (key.strip() and equals and value.strip()) for key, equals, value in pairs):
        raise ValueError
    return {key.strip().lower(): value.strip().lower() for key, _, value in pairs}


def _shifts(text: str) -> Mapping[str, int]:
    pairs = _pairs(text)
    if any(not re.fullmatch(r"[+-]?[1-4]", value) for value in pairs.values()):
        raise ValueError
    return {key: int(value) for key, value in pairs.items()}


SLUG_VALUE = matching(SLUG, "a slug: 1 to 63 of a-z, 0-9, _ and -, the first a letter or digit")
RATE = matching(re.compile(r"[1-9]\d*/(second|minute|hour|day)"), "a number from 1 and /second, /minute, /hour or /day")
TEXT = Values("text", str)
TEXTS = Values("texts, comma-separated", comma_separated)
DOTTED_PATH = matching(re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+"), "a dotted path")
DOTTED_PATHS = Values("dotted paths, comma-separated", comma_separated)
DATABASE_URL = Values(
    f"a URL that begins with postgresql:// or postgres:// and that libpq reads{_ESCAPED}", _database_url
)
REDIS_URL = Values(
    f"a URL that begins with redis://, rediss:// or unix:// and that redis-py reads{_ESCAPED}", _redis_url
)
PUBLIC_URL = Values("a URL that begins with https:// or http://, without a query", _public_url)
API_URL = Values("a URL that begins with https://, or with http:// to this machine, without a query", _api_url)
FERNET_KEYS = Values("Fernet keys, each 32 bytes in URL-safe base64, comma-separated", _fernet_keys)
ALIASES = Values("pairs alias=environment, comma-separated", _pairs)
SHIFTS = Values("pairs environment=steps, from -4 to +4, comma-separated", _shifts)
ON_OFF = Values("on or off", _is_on)
TOML = Values("the path of a TOML file, or TOML", str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A variable that is read: for errors and documents. ``default`` None: it must be set."""

    variable: str
    values: str
    parse: Callable[[str], Any] = field(repr=False)
    purpose: str
    default: str | None = ""
    example: str = ""
    is_secret: bool = False

    def read(self, environ: Mapping[str, str]) -> Any:  # noqa: ANN401 - what ``parse`` returns
        """Return the variable's value in ``environ``, else the default.

        Raises:
            InvalidSetting: it is missing or invalid; the message has its name, never its value.
        """
        example = self.default or self.example
        accepted = self.values + (f", for example {example}" if example else "")
        text = environ.get(self.variable, "").strip() or self.default
        if text is None:
            raise InvalidSetting(f"{self.variable} is not set. {self.purpose} It must be {accepted}.")
        try:
            return self.parse(text)
        except ValueError:
            raise InvalidSetting(f"{self.variable} must be {accepted}.") from None


def setting(
    variable: str,
    values: Values,
    purpose: str,
    *,
    default: str | None = "",
    secret: bool = False,
    example: str = "",
) -> Any:  # noqa: ANN401 - the field's annotation says what it is
    """Declare a field read from ``variable``.

    ``default`` is the text to parse when the variable is unset; None makes the variable required.
    """
    declared = Declaration(
        variable=variable,
        values=values.words,
        parse=values.parse,
        purpose=purpose,
        default=default,
        example=example,
        is_secret=secret,
    )
    return field(repr=not secret, metadata={"declares": (declared,)})


def settings_of_sources() -> Any:  # noqa: ANN401 - as above
    """Declare the field with what the sources declare, by variable: secrets of the environment, and settings."""
    declared = [_of_kind(kind) for source in SOURCES.values() for kind in source.KINDS if kind.variable]
    declared += [_of_source(each) for source in SOURCES.values() for each in source.SETTINGS]
    return field(repr=False, metadata={"declares": tuple(declared), "by_variable": True})


def _of_kind(kind: SecretKind) -> Declaration:
    return Declaration(
        variable=kind.variable, values=TEXTS.words, parse=TEXTS.parse, purpose=kind.purpose, is_secret=True
    )


def text_or_file(variable: str, text: str) -> str:
    """Return ``text``, or what is in the file that it is the path of: text in TOML has an ``=``, and a path none.

    Raises:
        InvalidSetting: the file cannot be read.
    """
    if not text or "\n" in text or "=" in text:
        return text
    try:
        return Path(text).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidSetting(f"{variable}: the file {text} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InvalidSetting(f"{variable}: it is not TOML: {error}.") from None


def _of_source(setting: SourceSetting) -> Declaration:
    def parse(text: str) -> Any:  # noqa: ANN401 - what ``parse`` of the setting returns
        return setting.parse(text_or_file(setting.variable, text) if setting.is_text_or_file else text)

    return Declaration(
        variable=setting.variable,
        values=setting.values,
        parse=parse,
        purpose=setting.purpose,
        default=setting.default,
        example=setting.example,
    )
