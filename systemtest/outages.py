"""One long outage after the other, under load: Redis killed or frozen, PostgreSQL killed or frozen.

Each has its own figures and its own guarantee. With both unavailable every delivery is refused, within a second. A
receiver of webhooks is told of every group all the same, while Redis is unavailable or afterwards.
"""

import argparse
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from systemtest import checking, telling
from systemtest.processes import Deployment
from systemtest.senders import Senders
from systemtest.telling import Receiver


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """Commands that begin and end it, and its guarantee: a percentile of the responses, and 2xx for all, else 503."""

    name: str
    begin: Sequence[str]
    end: Sequence[str]
    p99_ms: float = 300.0
    all_accepted: bool = True


OUTAGES = (
    Outage(name="Redis killed", begin=["redis kill"], end=["redis start"]),
    Outage(name="Redis frozen", begin=["redis freeze"], end=["redis thaw"], p99_ms=1000),
    Outage(name="PostgreSQL killed", begin=["postgres kill"], end=["postgres start"]),
    Outage(name="PostgreSQL frozen", begin=["postgres freeze"], end=["postgres thaw"]),
    Outage(
        name="Redis and PostgreSQL killed",
        begin=["redis kill", "postgres kill"],
        end=["postgres start", "redis start"],
        all_accepted=False,
    ),
    Outage(
        name="Redis killed, PostgreSQL frozen",
        begin=["redis kill", "postgres freeze"],
        end=["postgres thaw", "redis start"],
        p99_ms=1000,
        all_accepted=False,
    ),
)

#: After the outage all acknowledged alerts must be stored within this time.
_RECOVERY_TIMEOUT_SECONDS = 30.0
#: People are told of all groups within this time after that: a message of which the outcome could not be recorded is
#: sent again after 30 s.
_TELLING_TIMEOUT_SECONDS = 60.0
#: A circuit breaker stays open for two seconds; an outage of the other server within them is an outage of both.
_PAUSE_SECONDS = 3.0


def run_outage(deployment: Deployment, outage: Outage, senders: Senders, receiver: Receiver, *, seconds: float) -> bool:
    """Run one outage; return whether its guarantee holds."""
    time.sleep(_PAUSE_SECONDS)
    for command in outage.begin:
        deployment.servers.command(command)
    try:
        with senders.sending():
            time.sleep(seconds)
    finally:
        for command in outage.end:
            deployment.servers.command(command)
    findings = checking.check(senders.history, deployment.database_url, timeout_seconds=_RECOVERY_TIMEOUT_SECONDS)
    told = telling.check(receiver, deployment.database_url, timeout_seconds=_TELLING_TIMEOUT_SECONDS)
    accepted = sum(attempt.acknowledged for attempt in senders.history)
    refused = sum(attempt.status == 503 for attempt in senders.history)
    in_time = not findings.late and findings.p99_ms < outage.p99_ms
    complete = accepted + (0 if outage.all_accepted else refused) == len(senders.history)
    print(
        f"{outage.name:30} {len(senders.history):5} sent  {accepted:5} acknowledged  {refused:5} x 503  "
        f"p50 {findings.p50_ms:4.0f}  p99 {findings.p99_ms:4.0f}  max {findings.slowest_ms:5.0f} ms  "
        f"over 1 s {findings.late:3}  lost {findings.lost}  dead-lettered {findings.dead_lettered}  "
        f"all stored after {findings.seconds:4.1f} s  "
        f"groups {told.groups:4} not told of {told.lost} told again {told.again} all told after {told.seconds:4.1f} s",
        flush=True,
    )
    return findings.is_all_stored and in_time and complete and told.guarantees_hold


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m systemtest.outages", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of each outage")
    parser.add_argument("--per-second", type=float, default=40)
    arguments = parser.parse_args()
    secret = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="signalcraft-outages-") as directory, telling.receiving() as receiver:
        deployment = Deployment(Path(directory), secret, {"NOTIFY": receiver.notify})
        with deployment.running():
            senders = Senders(deployment.webhook_url, secret, number=4, per_second=20, seed=1)
            with senders.sending():  # so that all connections have been used once
                time.sleep(3)
            kept = []
            for outage in OUTAGES:
                senders = Senders(deployment.webhook_url, secret, number=6, per_second=arguments.per_second, seed=0)
                kept.append(run_outage(deployment, outage, senders, receiver, seconds=arguments.seconds))
    print("Every guarantee holds." if all(kept) else "A GUARANTEE WAS BROKEN.")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
