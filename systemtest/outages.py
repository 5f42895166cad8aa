"""One long outage after the other, under load: Redis away, Redis frozen, PostgreSQL away, PostgreSQL frozen.

Each has its own figures and its own promise. With both away nothing can be taken, and that is said in time.
"""

import argparse
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from systemtest import checking
from systemtest.processes import Deployment
from systemtest.senders import Senders


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """What is done, what undoes it, and what must hold: a percentile of the answers, and 2xx for all."""

    name: str
    take: Sequence[str]
    give_back: Sequence[str]
    p99_ms: float = 300.0
    all_taken: bool = True


OUTAGES = (
    Outage(name="Redis away", take=["redis kill"], give_back=["redis start"]),
    Outage(name="Redis frozen", take=["redis freeze"], give_back=["redis thaw"], p99_ms=1000),
    Outage(name="PostgreSQL away", take=["postgres kill"], give_back=["postgres start"]),
    Outage(name="PostgreSQL frozen", take=["postgres freeze"], give_back=["postgres thaw"]),
    Outage(
        name="Redis and PostgreSQL away",
        take=["redis kill", "postgres kill"],
        give_back=["postgres start", "redis start"],
        all_taken=False,
    ),
    Outage(
        name="Redis away, PostgreSQL frozen",
        take=["redis kill", "postgres freeze"],
        give_back=["postgres thaw", "redis start"],
        p99_ms=1000,
        all_taken=False,
    ),
)

#: Within so many seconds of its return, all that was acknowledged meanwhile has to be stored.
_DRAINED_SECONDS = 30.0
#: What was away is left alone for two seconds more; an outage of the other one within them is an outage of both.
_PAUSE_SECONDS = 3.0


def suffer(deployment: Deployment, outage: Outage, secret: str, *, seconds: float, per_second: float) -> bool:
    """Whether it kept its promise."""
    time.sleep(_PAUSE_SECONDS)
    senders = Senders(deployment.webhook_url, secret, number=6, per_second=per_second, seed=0)
    for order in outage.take:
        deployment.servers.order(order)
    try:
        with senders.sending():
            time.sleep(seconds)
    finally:
        for order in outage.give_back:
            deployment.servers.order(order)
    findings = checking.check(senders.history, deployment.database_url, patience_seconds=_DRAINED_SECONDS)
    taken = sum(attempt.acknowledged for attempt in senders.history)
    refused = sum(attempt.status == 503 for attempt in senders.history)
    kept = not (findings.lost or findings.miscounted or findings.set_aside or findings.several_current)
    in_time = not findings.late and findings.p99_ms < outage.p99_ms
    complete = taken == len(senders.history) or not outage.all_taken
    print(
        f"{outage.name:30} {len(senders.history):5} sent  {taken:5} acknowledged  {refused:5} x 503  "
        f"p50 {findings.p50_ms:4.0f}  p99 {findings.p99_ms:4.0f}  max {findings.slowest_ms:5.0f} ms  "
        f"over 1 s {findings.late:3}  lost {findings.lost}  set aside {findings.set_aside}  "
        f"drained after {findings.seconds:4.1f} s",
        flush=True,
    )
    return kept and in_time and complete


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m systemtest.outages", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of each outage")
    parser.add_argument("--per-second", type=float, default=40)
    arguments = parser.parse_args()
    secret = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="signalcraft-outages-") as directory:
        deployment = Deployment(Path(directory), secret, {})
        with deployment.running():
            senders = Senders(deployment.webhook_url, secret, number=4, per_second=20, seed=1)
            with senders.sending():  # everything has been reached once
                time.sleep(3)
            kept = [
                suffer(deployment, outage, secret, seconds=arguments.seconds, per_second=arguments.per_second)
                for outage in OUTAGES
            ]
    print("Every promise was kept." if all(kept) else "A PROMISE WAS BROKEN.")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
