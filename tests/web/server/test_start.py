"""A web process that cannot start says why in one line."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping

import pytest

from tests.support import ROOT

ENVIRON = {
    "DATABASE_URL": "postgresql://127.0.0.1:1/none",
    "REDIS_URL": "redis://127.0.0.1:1",
    "SENTRY_CLIENT_SECRET": "test-client-secret",
    "INGEST_DURABILITY": "inbox",
}
_READ_ONLY = 'for place in "$@"; do mount --bind "$place" "$place" && mount -o remount,bind,ro "$place"; done; '
PLACES = ("/dev/shm", "/tmp", "/var/tmp", str(ROOT))  # noqa: S108 - as tempfile knows them


def start_gunicorn(*before: str, environ: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*before, sys.executable, "-m", "gunicorn", "app:app"],
        cwd=ROOT,
        env={**os.environ, **ENVIRON, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        ended = start_gunicorn(environ={"PORT": str(port)})
    assert ended.returncode != 0
    lines = [line for line in ended.stderr.splitlines() if '"level":"info"' not in line]
    assert lines == [f"error: port {port} cannot be used: Address already in use."]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts directories read-only in a namespace of its own")
def test_without_a_writable_directory_the_start_ends_with_one_line() -> None:
    script = _READ_ONLY + 'unset TMPDIR TEMP TMP; exec "$PYTHON" -m gunicorn app:app'
    ended = subprocess.run(
        ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", script, "sh", *PLACES],
        cwd=ROOT,
        env={**os.environ, **ENVIRON, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if "unshare" in ended.stderr:
        pytest.skip(f"no namespaces here: {ended.stderr}")
    assert ended.returncode != 0
    assert ended.stderr.splitlines() == [
        "error: neither /dev/shm nor a temporary directory can be written to, and gunicorn needs one. Set TMPDIR."
    ]
