"""Write log lines to a file descriptor from one thread: an unread log stops no work.

A write to a full pipe blocks until somebody reads it, and making the descriptor non-blocking would do so for all
processes that share it. So lines wait in memory, up to a bound; those beyond it, and those that cannot be written, are
dropped and counted.
"""

import atexit
import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

#: How long a process that ends waits for its last lines to be written.
_FLUSH_TIMEOUT_SECONDS: Final = 0.5
_MAX_WAITING_CHARACTERS: Final = 4 * 1024 * 1024
#: How long to collect lines before they are written together. Waking a thread for each line would cost the threads
#: that work the interpreter lock each time.
_GATHER_SECONDS: Final = 0.01


class LogWriter:
    """Queue of lines, and the thread that writes them; the thread starts with the first line, also after a fork."""

    def __init__(self, descriptor: int, report_dropped: Callable[[int], None]) -> None:
        """Create a writer.

        ``report_dropped`` is called with their number when lines are read again after some were dropped.
        """
        self._descriptor = descriptor
        self._report_dropped = report_dropped
        self._forget()
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.flush)

    def _forget(self) -> None:
        """Reset, as a forked process must: what waits is for its parent to write."""
        self._lock = threading.RLock()  # a signal handler may log while its thread does
        self._waiting: SimpleQueue[str | threading.Event] = SimpleQueue()
        self._waiting_characters = 0
        self._dropped = self._unreported = 0
        self._is_torn = False
        self._thread: threading.Thread | None = None

    def write(self, line: str) -> None:
        """Queue a line, or drop it if too much waits."""
        with self._lock:
            if self._waiting_characters + len(line) > _MAX_WAITING_CHARACTERS:
                self._drop(1)
                return
            self._waiting_characters += len(line)
            self._waiting.put(line)
            if self._thread is None:
                self._start()

    def flush(self) -> None:
        """Wait until the lines so far are written, but not for long."""
        if self._thread is not None:
            written = threading.Event()
            self._waiting.put(written)
            written.wait(_FLUSH_TIMEOUT_SECONDS)

    def take_dropped(self) -> int:
        """Return the number of lines dropped since the last call."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        return dropped

    def _drop(self, lines: int) -> None:
        with self._lock:
            self._dropped += lines
            self._unreported += lines

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        with contextlib.suppress(RuntimeError):  # there are too many threads: the next line tries again
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while True:
            item: str | threading.Event | None = self._waiting.get()
            time.sleep(_GATHER_SECONDS)
            lines: list[str] = []
            size = 0
            while item is not None:
                if isinstance(item, threading.Event):
                    self._write_together(lines)
                    lines, size = [], 0
                    item.set()
                else:
                    # A write of up to PIPE_BUF bytes is atomic: other processes may write to the same pipe.
                    if size + len(item) + 1 > select.PIPE_BUF:
                        self._write_together(lines)
                        lines, size = [], 0
                    lines.append(item)
                    size += len(item) + 1
                item = self._next()
            self._write_together(lines)

    def _next(self) -> str | threading.Event | None:
        try:
            return self._waiting.get_nowait()
        except Empty:
            return None

    def _write_together(self, lines: list[str]) -> None:
        if not lines:
            return
        try:
            self._write("".join(f"{line}\n" for line in lines).encode(errors="backslashreplace"))
        except OSError:  # closed, its reader is gone, or the disk is full
            self._drop(len(lines))
        else:
            self._report()
        with self._lock:
            self._waiting_characters -= sum(map(len, lines))

    def _write(self, left: bytes) -> None:
        if self._is_torn:
            left = b"\n" + left
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
                self._is_torn = bool(left)
            except BlockingIOError:  # another process has made it non-blocking
                select.select([], [self._descriptor], [])

    def _report(self) -> None:
        with self._lock:
            dropped, self._unreported = self._unreported, 0
        if dropped:
            self._report_dropped(dropped)
