"""Take everything away, one part after the other, under load; then see whether a promise was broken.

Redis and PostgreSQL are killed as processes (SIGKILL), never as machines: what Redis has written to its append-only
file is then safe with the kernel, whatever ``appendfsync`` says, because it writes before it answers. Only a host
that dies takes up to a second of it along (``everysec``), and no process can play that. PostgreSQL runs without
``fsync`` here for the same reason, and with ``synchronous_commit``.

``--broken`` serves ``tests.support.naive_app`` instead, which does SET NX and then enqueues: it has to lose some.
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

from systemtest import checking
from systemtest.processes import Deployment
from systemtest.senders import Attempt, Senders

_BROKEN_APP = "tests.support.naive_app:app"
#: The fault that falls between its two steps; others would cost the broken door the time in which it loses something.
_AT_THE_DOOR = "gunicorn's workers killed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes away, for so many seconds, and comes back."""

    name: str
    take: Callable[[], None]
    give_back: Callable[[], None]
    seconds: float


def faults(deployment: Deployment) -> list[Fault]:
    """One of each, in the order in which they come round."""
    order, web, workers = deployment.servers.order, deployment.web, deployment.workers

    def nothing() -> None:
        """It comes back by itself."""

    def all_workers(action: str) -> None:
        for worker in workers:
            getattr(worker, action)()

    def both(*orders: str) -> None:
        for one in orders:
            order(one)

    return [
        Fault(name="worker killed", take=workers[0].kill, give_back=workers[0].start, seconds=1),
        Fault(name="Redis killed", take=lambda: order("redis kill"), give_back=lambda: order("redis start"), seconds=4),
        Fault(name="gunicorn's workers killed", take=web.kill_children, give_back=nothing, seconds=1),
        Fault(
            name="PostgreSQL crashed",
            take=lambda: order("postgres kill"),
            give_back=lambda: order("postgres start"),
            seconds=4,
        ),
        Fault(
            name="Redis frozen", take=lambda: order("redis freeze"), give_back=lambda: order("redis thaw"), seconds=4
        ),
        Fault(
            name="both workers killed",
            take=lambda: all_workers("kill"),
            give_back=lambda: all_workers("start"),
            seconds=2,
        ),
        Fault(name="web stopped and started", take=web.stop, give_back=web.start, seconds=0),
        Fault(name="gunicorn's workers killed", take=web.kill_children, give_back=nothing, seconds=1),
        Fault(
            name="Redis and PostgreSQL killed",
            take=lambda: both("redis kill", "postgres kill"),
            give_back=lambda: both("postgres start", "redis start"),
            seconds=3,
        ),
        Fault(name="web killed and started", take=web.kill, give_back=web.start, seconds=0),
        Fault(name="gunicorn's workers killed", take=web.kill_children, give_back=nothing, seconds=1),
        Fault(
            name="PostgreSQL frozen",
            take=lambda: order("postgres freeze"),
            give_back=lambda: order("postgres thaw"),
            seconds=4,
        ),
    ]


def torment(deployment: Deployment, senders: Senders, *, seconds: float, seed: int, only: str = "") -> None:
    """One fault after the other, or ``only`` those of one name, for about so long."""
    chance, began = random.Random(seed), time.monotonic()
    for fault in cycle([fault for fault in faults(deployment) if only in fault.name]):
        if time.monotonic() - began > seconds:
            return
        time.sleep(chance.uniform(0.5, 1.5))
        started = time.monotonic()
        fault.take()
        time.sleep(fault.seconds)
        fault.give_back()
        time.sleep(0.5)
        _report(fault, started - began, [attempt for attempt in senders.history if attempt.at >= started])


def _report(fault: Fault, at: float, during: Sequence[Attempt]) -> None:
    taken = sum(attempt.acknowledged for attempt in during)
    refused = sum(attempt.status >= 400 for attempt in during)
    slowest = max((attempt.seconds for attempt in during if attempt.status), default=0.0)
    print(
        f"{at:6.1f} s  {fault.name:28} {taken:4} acknowledged  {refused:4} refused  "
        f"{len(during) - taken - refused:4} without answer  slowest {slowest * 1000:4.0f} ms",
        flush=True,
    )


@contextmanager
def _directory(kept: Path | None) -> Iterator[Path]:
    if kept:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="signalcraft-chaos-") as directory:
        yield Path(directory)


def run(arguments: argparse.Namespace) -> checking.Findings:
    """Everything, from start to verdict."""
    secret = secrets.token_hex(16)
    settings = {"INGEST_DURABILITY": "redis"} if arguments.broken else {}
    app = _BROKEN_APP if arguments.broken else "app:app"
    with _directory(arguments.keep) as directory:
        deployment = Deployment(directory, secret, settings, app=app)
        with deployment.running():
            senders = Senders(
                deployment.webhook_url, secret, number=20, per_second=arguments.per_second, seed=arguments.seed
            )
            only = _AT_THE_DOOR if arguments.broken else ""
            with senders.sending():
                torment(deployment, senders, seconds=arguments.seconds, seed=arguments.seed, only=only)
            findings = checking.check(
                senders.history, deployment.database_url, patience_seconds=20 if arguments.broken else 60
            )
        telling = [log.name for log in directory.glob("*.log") if secret in log.read_text(errors="replace")]
        assert not telling, f"the secret stands in {', '.join(telling)}"
        return findings


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m systemtest.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--per-second", type=float, default=200, help="alerts, of all senders together")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(2)))
    parser.add_argument("--broken", action="store_true", help="SET NX, then enqueue: has to lose some")
    parser.add_argument("--keep", type=Path, help="a directory for data and logs, to look at afterwards")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}; {'the broken door' if arguments.broken else 'the real thing'}", flush=True)
    findings = run(arguments)
    print(*findings.lines(), sep="\n")
    if arguments.broken:
        print("It lost some, as it must." if findings.lost else "IT LOST NOTHING: this suite cannot fail.")
        return 0 if findings.lost else 1
    print("Every promise was kept." if findings.held else "A PROMISE WAS BROKEN.")
    return 0 if findings.held else 1


if __name__ == "__main__":
    sys.exit(main())
