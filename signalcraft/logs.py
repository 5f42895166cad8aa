"""Log lines: one JSON object each, whoever wrote them: we, RQ, gunicorn, a library, an uncaught exception.

Code logs a static sentence and fields: ``structlog.get_logger(__name__).info("delivery processed", group_id=7)``.
What holds for a whole request or job (``delivery_id``, ``workspace``, ``stage``) is bound once, with
``structlog.contextvars.bound_contextvars``. Lines go to standard error: standard output is for what a command
answers.

Nothing that a sender wrote can break a line or move a terminal's cursor, and no field whose name says that it is
secret is written out.
"""

import contextlib
import json
import logging
import math
import os
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_FIRST = ("timestamp", "level", "logger", "event")
_MASK = "[masked]"
_MAX_TEXT = 8_000
_MAX_DEPTH = 6
#: Libraries whose errors quote rows.
_QUOTING = ("peewee", "psycopg2")

#: `secret_name`, `token_id` and the like are made to be logged.
_SECRET_FIELD = re.compile(
    r"(token|secret|authorization|cookie|signature|passw(or)?d|api_?key|encryption_key|(database|redis)_url)"
    r"(?!.*_(name|id|kind|count)$)",
    re.IGNORECASE,
)
#: In texts: a URL's account, a query's or a header's secret, an address of e-mail.
_SECRET_TEXT = re.compile(
    r"(?<=://)[^/@\s]*:[^/@\s]*(?=@)"
    r"|(?<=[?&]token=)[^&\s\"']+|(?<=[?&]api_key=)[^&\s\"']+"
    r"|(?<=\bbearer )[^\s\"',]+|(?<=\bbasic )[^\s\"',]+|(?<=\bcookie: )[^\n\"']+"
    r"|[\w.+-]{1,64}@[\w-]{1,63}(\.[\w-]{1,63}){1,4}",
    re.IGNORECASE,
)
_HEADER_TEXT = re.compile(r"bearer |basic |cookie: ", re.IGNORECASE)
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def configure(level: str, fmt: str, *, stream: TextIO | None = None) -> None:
    """Send all log lines of this process to ``stream`` (standard error) as ``fmt``: ``json`` or ``console``.

    Call it before RQ starts a worker: RQ brings its own coloured handlers only where the root logger has none
    (``rq.logutils.setup_loghandlers``).
    """
    stream = stream or cast("TextIO | None", sys.stderr) or _null_stream()
    exceptions = structlog.processors.ExceptionRenderer(_without_messages_of_databases)
    rendering: list[Processor] = [exceptions, scrub, _renderer(fmt, stream)]
    context: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*context, _add_logger, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda name="": _LineWriter(stream, name),
        cache_logger_on_first_use=True,
    )
    _route_standard_library(level, context, rendering, stream)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


@cache
def _null_stream() -> TextIO:
    """Where standard error was closed by whoever started us: what nobody reads must not cost a delivery."""
    return Path(os.devnull).open("w", encoding="ascii")


def scrub(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Make every field safe to write: control characters escaped, secrets masked, what is endless cut short."""
    ordered = {name: event[name] for name in _FIRST if name in event}
    ordered.update(event)
    return {name: _scrubbed(name, value) for name, value in ordered.items()}


def exception_fields(error: BaseException) -> dict[str, str]:
    """What may be logged of an exception: what and where it is, and not its message, which can quote a row of ours."""
    return {"error": type(error).__name__, "traceback": "".join(traceback.format_tb(error.__traceback__))}


def _without_messages_of_databases(exc_info: structlog.typing.ExcInfo) -> str:
    """A traceback as Python writes it; what PostgreSQL says of a row is left out, since it quotes the row."""
    written = "".join(traceback.format_exception(*exc_info)).rstrip()
    error: BaseException | None = exc_info[1]
    while error is not None:
        if type(error).__module__.startswith(_QUOTING) and str(error):
            written = written.replace(str(error).rstrip(), "[left out]")
        error = error.__cause__ or error.__context__
    return written


class _LineWriter:
    """The end of our own loggers: straight to the stream, without the standard library's detour (0.02 ms a line)."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self.name = name

    def write(self, line: str) -> None:
        """Write one line at once. A full disk or a closed pipe must not cost a delivery."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = write


def _add_logger(logger: _LineWriter, _method: str, event: EventDict) -> EventDict:
    event["logger"] = logger.name
    return event


def _renderer(fmt: str, stream: TextIO) -> Processor:
    if fmt == "console":
        return structlog.dev.ConsoleRenderer(
            colors=stream.isatty(),
            exception_formatter=structlog.dev.plain_traceback,
        )
    return structlog.processors.JSONRenderer(serializer=_as_json)


#: In ASCII: U+2028 and its like end a line for some readers.
_ENCODER = json.JSONEncoder(default=str, separators=(",", ":"))


def _as_json(event: EventDict, **_: object) -> str:
    return _ENCODER.encode(event)


def _route_standard_library(level: str, context: list[Processor], rendering: list[Processor], stream: TextIO) -> None:
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*context, structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder()],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.setLevel(level)  # some libraries set their own loggers' levels
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # At DEBUG it writes every query with its values: bodies, titles, hashes of tokens.
    logging.getLogger("peewee").setLevel(logging.INFO)
    logging.captureWarnings(capture=True)


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    structlog.get_logger(__name__).critical("uncaught exception", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        structlog.get_logger(__name__).critical(
            "uncaught exception",
            thread=args.thread.name if args.thread else None,
            exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
        )


def _scrubbed(name: str, value: object, depth: int = 0) -> Any:  # noqa: ANN401 - whatever JSON can say
    if _is_secret(name) and not (value is None or isinstance(value, bool)):
        return _MASK
    if isinstance(value, str):
        return _safe(value, keep="\n\t" if name == "exception" else "")
    return _as_plain_value(value, depth)


def _as_plain_value(value: object, depth: int) -> Any:  # noqa: ANN401 - likewise
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return {_safe(str(key)): _scrubbed(str(key), item, depth + 1) for key, item in value.items()}
    if depth < _MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [_scrubbed("", item, depth + 1) for item in value]
    return _safe(str(value))


@lru_cache(maxsize=1024)
def _is_secret(field: str) -> bool:
    return _SECRET_FIELD.search(field) is not None


def _safe(text: str, *, keep: str = "") -> str:
    if _may_hold_secrets(text):
        text = _SECRET_TEXT.sub(_MASK, text)
    if not text.isprintable():
        text = _COLOUR.sub("", text)
        text = "".join(
            character if character.isprintable() or character in keep else _escape(character) for character in text
        )
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}… ({len(text)} characters)"


def _may_hold_secrets(text: str) -> bool:
    """Most texts are told by this: looking for the secrets themselves in each doubled what a line takes."""
    return "@" in text or "=" in text or "://" in text or (" " in text and bool(_HEADER_TEXT.search(text)))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
