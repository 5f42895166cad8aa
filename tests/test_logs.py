"""Log lines: one JSON object each, without secrets and without characters that break a line."""

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import peewee
import psycopg2
import pytest
import structlog
from rq.logutils import setup_loghandlers
from structlog.contextvars import bound_contextvars

from signalcraft import logs
from tests.support.captured_logs import restored_logging

Lines = Callable[[], list[dict[str, object]]]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    with restored_logging() as stream:
        yield stream


@pytest.fixture
def lines(stream: io.StringIO) -> Lines:
    logs.configure("INFO", "json", stream=stream)
    return lambda: [json.loads(line) for line in stream.getvalue().split("\n")[:-1]]


def test_a_line_has_time_level_logger_sentence_and_fields_in_this_order(lines: Lines) -> None:
    structlog.get_logger("signalcraft.worker.process").info("delivery processed", group_id=7)
    (line,) = lines()
    assert list(line) == ["timestamp", "level", "logger", "event", "group_id"]
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "level": "info",
        "logger": "signalcraft.worker.process",
        "event": "delivery processed",
        "group_id": 7,
    }


def test_records_of_the_standard_library_have_the_same_format(lines: Lines) -> None:
    logging.getLogger("gunicorn.error").warning("Worker %s exited", 12, extra={"code": 3})
    (line,) = lines()
    assert (line["level"], line["logger"], line["event"], line["code"]) == (
        "warning",
        "gunicorn.error",
        "Worker 12 exited",
        3,
    )


def test_fields_bound_to_the_context_are_in_every_line_of_it(lines: Lines) -> None:
    with bound_contextvars(delivery_id="d1", workspace="acme", stage="verify"):
        structlog.get_logger().info("ours")
        logging.getLogger("peewee").warning("theirs")
    structlog.get_logger().info("after")
    assert [line.get("delivery_id") for line in lines()] == ["d1", "d1", None]


def test_rq_adds_no_handlers(lines: Lines) -> None:
    setup_loghandlers("INFO", name="rq.worker")
    logging.getLogger("rq.worker").info("\x1b[32mdefault\x1b[39;49;00m: job %s", "x")
    assert logging.getLogger("rq.worker").handlers == []
    assert [line["event"] for line in lines()] == ["default: job x"]


def test_a_level_set_by_a_library_does_not_lower_ours(stream: io.StringIO) -> None:
    logs.configure("WARNING", "json", stream=stream)
    setup_loghandlers("INFO", name="rq.job")
    logging.getLogger("rq.job").info("chatter")
    structlog.get_logger().info("chatter")
    assert not stream.getvalue()


@pytest.mark.parametrize(
    "nasty", ["a\nb", "a\r\nb", "a\x1b[2Jb", "a\u2028b", "a\x85b", "a\ud800b", "a\x00b", "a\u202eb"]
)
@pytest.mark.parametrize("field", ["event", "title", "deep"])
def test_no_text_breaks_a_line_or_controls_a_terminal(
    stream: io.StringIO, lines: Lines, nasty: str, field: str
) -> None:
    log = structlog.get_logger(nasty)
    if field == "event":
        log.info(nasty)
        logging.getLogger(nasty).warning(nasty)
    else:
        log.info("event", **{field: {nasty: [nasty]} if field == "deep" else nasty})
    written = stream.getvalue()
    assert written.count("\n") == len(written.splitlines()) == len(lines())
    assert all(text.isprintable() for line in lines() for text in _texts(line))


@pytest.mark.parametrize("value", [2**70, -(2**64), 1.5, None, True, "é", "\u2028", "", "plain-text_1.0"])
def test_a_line_is_ascii_and_keeps_the_value_of_a_field(stream: io.StringIO, lines: Lines, value: object) -> None:
    structlog.get_logger().info("event", value=value)
    assert stream.getvalue().isascii()
    assert [line["value"] for line in lines()] == ["\\u2028" if value == "\u2028" else value]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from (key, *_texts(item))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "api_token",
        "client_secret",
        "Authorization",
        "cookie",
        "sentry-hook-signature",
        "password",
        "database_url",
    ],
)
def test_a_field_with_the_name_of_a_secret_is_masked(stream: io.StringIO, lines: Lines, name: str) -> None:
    structlog.get_logger().info("event", **{name: "hunter2", "headers": {name: "hunter2"}, f"{name}_bytes": b"hunter2"})
    logging.getLogger("x").warning("event", extra={name: "hunter2"})
    assert "hunter2" not in stream.getvalue()
    assert lines()[0][name] == "[masked]"


def test_the_name_of_a_secret_is_not_masked(lines: Lines) -> None:
    structlog.get_logger().info("matched", secret_name="production", secret_kind="integration", token_id=3)
    (line,) = lines()
    assert (line["secret_name"], line["secret_kind"], line["token_id"]) == ("production", "integration", 3)


def test_credentials_inside_a_text_are_masked(stream: io.StringIO, lines: Lines) -> None:
    logging.getLogger("redis").warning("cannot reach redis://user:hunter2@cache:6379/0")
    logging.getLogger("gunicorn.error").warning("POST /webhooks/sentry?token=hunter2&x=1")
    assert "hunter2" not in stream.getvalue()
    assert [line["event"] for line in lines()] == [
        "cannot reach redis://[masked]@cache:6379/0",
        "POST /webhooks/sentry?token=[masked]&x=1",
    ]


def _fail(text: str) -> None:
    raise ValueError(text)


def test_an_exception_is_one_line_with_its_traceback(stream: io.StringIO, lines: Lines) -> None:
    try:
        _fail("bad\r\n\x1b[31mthing")
    except ValueError:
        structlog.get_logger().exception("failed")
        logging.getLogger("x").exception("failed")
    assert stream.getvalue().count("\n") == 2
    for line in lines():
        assert str(line["exception"]).startswith("Traceback (most recent call last):\n")
        assert "\x1b" not in str(line["exception"])


def test_uncaught_exceptions_and_warnings_are_lines_too(lines: Lines) -> None:
    thread = threading.Thread(target=lambda: 1 / 0, name="flusher")
    thread.start()
    thread.join()
    sys.excepthook(ValueError, ValueError("x"), None)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    first, second, third = lines()
    assert (first["event"], first["thread"], first["level"]) == ("uncaught exception", "flusher", "critical")
    assert second["exception"] == "ValueError: x"
    assert third["logger"] == "py.warnings"


def test_values_without_a_json_type_are_written_as_text_and_long_ones_are_truncated(lines: Lines) -> None:
    structlog.get_logger().info("odd", ratio=float("nan"), when=threading, many={1}, long="x" * 100_000)
    (line,) = lines()
    assert line["ratio"] == "nan"
    assert line["many"] == [1]
    assert len(str(line["long"])) < 9_000
    assert str(line["when"]).startswith("<module")


def test_a_closed_stream_raises_nothing(stream: io.StringIO, lines: Lines) -> None:
    structlog.get_logger().info("first")
    assert len(lines()) == 1
    stream.close()
    structlog.get_logger().info("second")


def test_a_standard_error_that_was_closed_before_the_start_raises_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    logs.configure("INFO", "json")
    structlog.get_logger().info("ours")
    logging.getLogger("x").warning("theirs")


def test_the_console_format_is_not_json(stream: io.StringIO) -> None:
    logs.configure("INFO", "console", stream=stream)
    structlog.get_logger("x").info("delivery processed", group_id=7)
    assert "delivery processed" in stream.getvalue()
    assert "group_id=7" in stream.getvalue()
    with pytest.raises(json.JSONDecodeError):
        json.loads(stream.getvalue())


def test_postgresql_messages_that_quote_a_row_are_left_out_of_a_traceback(lines: Lines) -> None:
    error = peewee.IntegrityError("Failing row contains (mira@example.com)")
    error.__cause__ = psycopg2.IntegrityError("Failing row contains (mira@example.com)")
    structlog.get_logger().error("it failed", exc_info=error)
    (line,) = lines()
    assert "mira" not in str(line)
    assert "IntegrityError: [left out]" in line["exception"]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("mail to mira.k+x@mail.example.com failed", "mira.k"),
        ("Authorization: Bearer abcdef.ghi", "abcdef"),
        ("proxy said Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("GET /x?a=1&api_key=s3cr3t&b=2", "s3cr3t"),
        ("Cookie: session=s3cr3t; other=2", "s3cr3t"),
        ("redis://:s3cr3t@host/0", "s3cr3t"),
        ("redis://user:s3:cr3t@host/0", "cr3t"),
        (f"mail to {'s3cr3t' * 20}@example.com failed", "s3cr3t"),
    ],
)
def test_a_secret_inside_a_text_is_masked_too(lines: Lines, text: str, secret: str) -> None:
    structlog.get_logger().info("it happened", reason=text)
    logging.getLogger("peewee").warning("theirs: %s", text)
    assert secret not in str(lines())
    assert len(lines()) == 2
