"""Log lines: one JSON object each, from this package, RQ, gunicorn, a library or an uncaught exception.

Code logs a static sentence and fields: ``structlog.get_logger(__name__).info("delivery processed", group_id=7)``.
Fields of a whole request or job (``delivery_id``, ``workspace``, ``stage``) are bound once, with
``structlog.contextvars.bound_contextvars``. Lines go to standard error: standard output is for the result of a command.
A thread writes them (``logs.writer``): logging neither waits for a reader of the log nor fails.

No text of a sender can break a line or move a terminal's cursor, and fields with the name of a secret are masked.
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
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from signalcraft.logs.writer import LogWriter

#: Writes one line.
WriteLine = Callable[[str], None]

_FIRST_FIELDS = ("timestamp", "level", "logger", "event")
_MASK = "[masked]"
_MAX_TEXT_LENGTH = 8_000
_MAX_DEPTH = 6
#: Libraries whose errors quote rows.
_ROW_QUOTING_LIBRARIES = ("peewee", "psycopg2")

_SECRET_FIELD = re.compile(
    r"token|secret|authorization|cookie|signature|passw(or)?d|api_?key|encryption_key|(database|redis)_url",
    re.IGNORECASE,
)
#: `secret_name`, `token_id` and the like may be logged.
_NO_SECRET_SUFFIXES = ("_name", "_id", "_kind", "_count")
#: In texts: the credentials of a URL, secrets of a query or header, e-mail addresses. It must not backtrack: some texts
#: are from anybody, and an address of 8 kB of colons once took a second.
_SECRET_TEXT = re.compile(
    r"(?<=://)[^/@\s:]*+:[^/@\s]*+(?=@)"
    r"|(?<=[?&]token=)[^&\s\"']+|(?<=[?&]api_key=)[^&\s\"']+"
    r"|(?<=\bbearer )[^\s\"',]+|(?<=\bbasic )[^\s\"',]+|(?<=\bcookie: )[^\n\"']+"
    r"|(?<![\w.+-])[\w.+-]++@[\w-]{1,63}(\.[\w-]{1,63}){1,4}",
    re.IGNORECASE,
)
#: Most texts: nothing in them can be a secret of those, or control a terminal.
_HARMLESS = re.compile(r"[\w.:+-]*+", re.ASCII)
_HEADER_TEXT = re.compile(r"bearer |basic |cookie: ", re.IGNORECASE)
_COLOUR_SEQUENCE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def configure(level: str, fmt: str, *, stream: TextIO | None = None) -> None:
    """Send all log lines of this process to standard error, or to ``stream`` at once.

    ``fmt`` is ``json`` or ``console``. Call it before RQ starts a worker: RQ brings its own coloured handlers only
    where the root logger has none (``rq.logutils.setup_loghandlers``).
    """
    write = partial(_write_at_once, stream) if stream else _writer().write
    is_terminal = (stream or sys.stderr).isatty()
    exceptions = structlog.processors.ExceptionRenderer(_format_without_database_messages)
    rendering: list[Processor] = [exceptions, scrub, _renderer(fmt, is_terminal=is_terminal)]
    context: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*context, _add_logger, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda name="": _LineLogger(write, name),
        cache_logger_on_first_use=True,
    )
    _route_standard_library(level, context, rendering, write)
    sys.excepthook = _log_uncaught
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_uncaught_in_thread


def flush() -> None:
    """Wait for half a second at most until all lines are written: before ``os._exit``."""
    _writer().flush()


def take_dropped() -> int:
    """Return the number of lines dropped since the last call: without a reader, or with nowhere to write."""
    return _writer().take_dropped()


@cache
def _writer() -> LogWriter:
    return LogWriter(_standard_error(), _log_dropped)


def _standard_error() -> int:
    """Return the descriptor of standard error; -1, to which nothing can be written, if it was closed before the start.

    Then the next file or socket would get its number, and with it what libraries print; and ``faulthandler`` would
    refuse to work. So the null device takes its place.
    """
    if cast("TextIO | None", sys.stderr) is not None:
        return 2
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.fstat(2)
    except OSError:
        os.dup2(null, 2)
    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for the life of the process
    return -1


def _log_dropped(lines: int) -> None:
    structlog.get_logger(__name__).warning("log lines dropped", lines=lines)


def _write_at_once(stream: TextIO, line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        stream.write(line + "\n")


def scrub(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Make all fields safe to write.

    Control characters are escaped, secrets masked, and long texts truncated.
    """
    ordered = {name: event[name] for name in _FIRST_FIELDS if name in event}
    ordered.update(event)
    return {name: _scrubbed(name, value) for name, value in ordered.items()}


def exception_fields(error: BaseException) -> dict[str, str]:
    """Return type and traceback of an exception.

    Its message is left out: it can quote a row.
    """
    return {"error": type(error).__name__, "traceback": "".join(traceback.format_tb(error.__traceback__))}


def _format_without_database_messages(exc_info: structlog.typing.ExcInfo) -> str:
    """Format a traceback without PostgreSQL's messages, which quote rows."""
    formatted = "".join(traceback.format_exception(*exc_info)).rstrip()
    error: BaseException | None = exc_info[1]
    while error is not None:
        if type(error).__module__.startswith(_ROW_QUOTING_LIBRARIES) and str(error):
            formatted = formatted.replace(str(error).rstrip(), "[left out]")
        error = error.__cause__ or error.__context__
    return formatted


class _LineLogger:
    """Hands structlog's lines to ``write`` directly; the standard library would take 0.02 ms more a line."""

    def __init__(self, write: WriteLine, name: str) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = write
        self.name = name


def _add_logger(logger: _LineLogger, _method: str, event: EventDict) -> EventDict:
    event["logger"] = logger.name
    return event


def _renderer(fmt: str, *, is_terminal: bool) -> Processor:
    if fmt == "console":
        return structlog.dev.ConsoleRenderer(
            colors=is_terminal,
            exception_formatter=structlog.dev.plain_traceback,
        )
    return structlog.processors.JSONRenderer(serializer=_as_json)


#: ASCII only: for some readers U+2028 and similar characters end a line. orjson takes an eighth of the time, but writes
#: UTF-8, and refuses long integers.
_ENCODER = json.JSONEncoder(default=str, separators=(",", ":"))


def _as_json(event: EventDict, **_: object) -> str:
    try:
        line = orjson.dumps(event, default=str)
    except orjson.JSONEncodeError:
        return _ENCODER.encode(event)
    return line.decode() if line.isascii() else _ENCODER.encode(event)


def _route_standard_library(level: str, context: list[Processor], rendering: list[Processor], write: WriteLine) -> None:
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*context, structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder()],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )
    handler = _Handler(write)
    handler.setFormatter(formatter)
    handler.setLevel(level)  # some libraries set their own loggers' levels
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # At DEBUG Peewee logs every query with its values: bodies, titles, hashes of tokens.
    logging.getLogger("peewee").setLevel(logging.INFO)
    # These log the URLs that they call, at WARNING too: that of an incoming webhook is a secret.
    for name in ("urllib3", "apprise"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)


class _Handler(logging.Handler):
    """Hands the standard library's records to ``write``."""

    def __init__(self, write: WriteLine) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - the standard library would write a traceback to standard error
            structlog.get_logger(record.name).error("malformed log record", **exception_fields(error))
        else:
            self._write(line)


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


def _log_unraisable(args: "sys.UnraisableHookArgs") -> None:
    structlog.get_logger(__name__).error(
        "exception ignored",
        raised_by=getattr(args.object, "__qualname__", type(args.object).__name__),
        exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
    )


def _scrubbed(name: str, value: object, depth: int = 0) -> Any:  # noqa: ANN401 - any JSON value
    if _is_secret(name) and not (value is None or isinstance(value, bool)):
        return _MASK
    if isinstance(value, str):
        if len(value) <= _MAX_TEXT_LENGTH and _HARMLESS.fullmatch(value):
            return value
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
    return _SECRET_FIELD.search(field) is not None and not field.lower().endswith(_NO_SECRET_SUFFIXES)


def _safe(text: str, *, keep: str = "") -> str:
    if _may_hold_secrets(text):
        text = _SECRET_TEXT.sub(_MASK, text)
    if not text.isprintable():
        text = _COLOUR_SEQUENCE.sub("", text)
        text = "".join(
            character if character.isprintable() or character in keep else _escape(character) for character in text
        )
    return text if len(text) <= _MAX_TEXT_LENGTH else f"{text[:_MAX_TEXT_LENGTH]}… ({len(text)} characters)"


def _may_hold_secrets(text: str) -> bool:
    """Return whether secrets must be searched for in the text.

    Running the regular expression on each text doubled the time of a line.
    """
    return "@" in text or "=" in text or "://" in text or (" " in text and bool(_HEADER_TEXT.search(text)))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
