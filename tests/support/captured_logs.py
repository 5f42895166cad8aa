"""Log lines in a stream; the logging configuration of the process is restored afterwards."""

import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from signalcraft import logs


@contextmanager
def restored_logging() -> Iterator[io.StringIO]:
    """Yield a stream for log lines, which the test configures."""
    root, hooks = logging.getLogger(), (sys.excepthook, sys.unraisablehook, threading.excepthook)
    handlers, level = root.handlers, root.level
    yield io.StringIO()
    root.handlers, root.level = handlers, level
    sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@contextmanager
def captured_logs() -> Iterator[io.StringIO]:
    """Log all of SignalCraft and its libraries, as in production, at DEBUG."""
    with restored_logging() as stream:
        logs.configure("DEBUG", "json", stream=stream)
        structlog.configure(cache_logger_on_first_use=False)  # or the loggers of modules would keep this configuration
        yield stream
