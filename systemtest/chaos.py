"""Kill or freeze each part in turn, under load; then check every guarantee.

Redis and PostgreSQL are killed as processes (SIGKILL), never as machines: what Redis has written to its append-only
file is then safe with the kernel, whatever ``appendfsync`` says, because it writes before it answers. Only the crash
of a host loses up to a second of writes (``everysec``), which no process can simulate. PostgreSQL runs without
``fsync`` here for the same reason, and with ``synchronous_commit``.

``--broken`` serves ``tests.support.naive_app`` instead, which does SET NX and then enqueues: it must lose some.
"""

import argparse
import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from systemtest import checking, telling
from systemtest.processes import Deployment
from systemtest.senders import Attempt, Senders
from systemtest.telling import Receiver, Telling

_BROKEN_APP = "tests.support.naive_app:app"
#: The fault that can hit between the two steps of the broken app; others would only leave less time for it.
_WEB_FAULT = "gunicorn's workers killed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A part that is unavailable for ``seconds``, and then available again."""

    name: str
    begin: Callable[[], None]
    end: Callable[[], None]
    seconds: float


def faults(deployment: Deployment, receiver: Receiver) -> list[Fault]:
    """Return the faults in the order of a round."""
    command, web, workers = deployment.servers.command, deployment.web, deployment.workers

    def nothing() -> None:
        """gunicorn restarts its workers by itself."""

    def all_workers(action: str) -> None:
        for worker in workers:
            getattr(worker, action)()

    def both(*commands: str) -> None:
        for each in commands:
            command(each)

    return [
        Fault(name="notifier killed", begin=deployment.notifier.kill, end=deployment.notifier.start, seconds=1),
        Fault(name="receiver answers 503", begin=receiver.refuse, end=receiver.accept, seconds=3),
        Fault(name="worker killed", begin=workers[0].kill, end=workers[0].start, seconds=1),
        Fault(name="Redis killed", begin=lambda: command("redis kill"), end=lambda: command("redis start"), seconds=4),
        Fault(name="gunicorn's workers killed", begin=web.kill_children, end=nothing, seconds=1),
        Fault(
            name="PostgreSQL crashed",
            begin=lambda: command("postgres kill"),
            end=lambda: command("postgres start"),
            seconds=4,
        ),
        Fault(name="Redis frozen", begin=lambda: command("redis freeze"), end=lambda: command("redis thaw"), seconds=4),
        Fault(
            name="both workers killed",
            begin=lambda: all_workers("kill"),
            end=lambda: all_workers("start"),
            seconds=2,
        ),
        Fault(name="web stopped and started", begin=web.stop, end=web.start, seconds=0),
        Fault(name="gunicorn's workers killed", begin=web.kill_children, end=nothing, seconds=1),
        Fault(
            name="Redis and PostgreSQL killed",
            begin=lambda: both("redis kill", "postgres kill"),
            end=lambda: both("postgres start", "redis start"),
            seconds=3,
        ),
        Fault(name="web killed and started", begin=web.kill, end=web.start, seconds=0),
        Fault(name="gunicorn's workers killed", begin=web.kill_children, end=nothing, seconds=1),
        Fault(
            name="PostgreSQL frozen",
            begin=lambda: command("postgres freeze"),
            end=lambda: command("postgres thaw"),
            seconds=4,
        ),
    ]


def inject_faults(faults: Sequence[Fault], senders: Senders, *, seconds: float, seed: int) -> None:
    """Inject one fault after the other for about ``seconds``."""
    chance, began = random.Random(seed), time.monotonic()
    for fault in cycle(faults):
        if time.monotonic() - began > seconds:
            return
        time.sleep(chance.uniform(0.5, 1.5))
        started = time.monotonic()
        fault.begin()
        time.sleep(fault.seconds)
        fault.end()
        time.sleep(0.5)
        _report(fault, started - began, [attempt for attempt in senders.history if attempt.at >= started])


def _report(fault: Fault, at: float, during: Sequence[Attempt]) -> None:
    accepted = sum(attempt.acknowledged for attempt in during)
    refused = sum(attempt.status >= 400 for attempt in during)
    slowest = max((attempt.seconds for attempt in during if attempt.status), default=0.0)
    print(
        f"{at:6.1f} s  {fault.name:28} {accepted:4} acknowledged  {refused:4} refused  "
        f"{len(during) - accepted - refused:4} without response  slowest {slowest * 1000:4.0f} ms",
        flush=True,
    )


@contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="signalcraft-chaos-") as directory:
        yield Path(directory)


def run(arguments: argparse.Namespace) -> tuple[checking.Findings, Telling]:
    """Run a deployment under faults; return the findings, and what a receiver was told."""
    secret = secrets.token_hex(16)
    settings = {"INGEST_DURABILITY": "redis"} if arguments.broken else {}
    app = _BROKEN_APP if arguments.broken else "app:app"
    with _directory(arguments.keep) as directory, telling.receiving() as receiver:
        deployment = Deployment(directory, secret, settings | {"NOTIFY": receiver.notify}, app=app)
        with deployment.running():
            senders = Senders(
                deployment.webhook_url, secret, number=20, per_second=arguments.per_second, seed=arguments.seed
            )
            only = _WEB_FAULT if arguments.broken else ""
            chosen = [fault for fault in faults(deployment, receiver) if only in fault.name]
            with senders.sending():
                inject_faults(chosen, senders, seconds=arguments.seconds, seed=arguments.seed)
            findings = checking.check(
                senders.history, deployment.database_url, timeout_seconds=20 if arguments.broken else 60
            )
            told = telling.check(receiver, deployment.database_url, timeout_seconds=0 if arguments.broken else 90)
        logs = {log.name: log.read_text(errors="replace") for log in directory.glob("*.log")}
        leaks = [name for name, text in logs.items() if secret in text or receiver.secret in text]
        assert not leaks, f"a secret is in {', '.join(leaks)}"
        return findings, told


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m systemtest.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--per-second", type=float, default=200, help="alerts, of all senders together")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(2)))
    parser.add_argument("--broken", action="store_true", help="SET NX, then enqueue: must lose some")
    parser.add_argument("--keep", type=Path, help="a directory for data and logs, for inspection afterwards")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}; {'the broken app' if arguments.broken else 'SignalCraft'}", flush=True)
    findings, told = run(arguments)
    print(*findings.lines(), *told.lines(), sep="\n")
    if arguments.broken:
        print("It lost some, as it must." if findings.lost else "IT LOST NOTHING: this suite cannot fail.")
        return 0 if findings.lost else 1
    is_kept = findings.guarantees_hold and told.guarantees_hold
    print("Every guarantee holds." if is_kept else "A GUARANTEE WAS BROKEN.")
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
