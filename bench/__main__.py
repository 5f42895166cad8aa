"""Measure, print one table, save the results: ``python -m bench [names…] [--quick]``.

Without URLs it runs on embedded servers that write to disk (fsync, append-only file). With ``--database-url`` and
``--redis-url`` it runs on existing servers. There it creates and drops databases called
``signalcraft_bench_…``, and uses the numbered Redis databases from 15 down, if they are empty.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench import (
    contention,
    deliveries,
    drain,
    growth,
    intake,
    latency,
    lists,
    memory,
    notify,
    pages,
    press,
    purge,
    refusals,
    single,
    whole,
    workers,
)
from bench.arena import Arena, BenchError
from bench.figures import ROOT, Figure, show, write
from signalcraft.dev import embedded_servers

Benchmark = Callable[[Arena], Iterator[Figure]]

BENCHMARKS: Mapping[str, Benchmark] = {
    "normalize": single.run,
    "drain": drain.run,
    "latency": latency.run,
    "intake": intake.run,
    "refusals": refusals.run,
    "contention": contention.run,
    "workers": workers.run,
    "memory": memory.run,
    "growth": growth.run,
    "lists": lists.run,
    "pages": pages.run,
    "purge": purge.run,
    "notify": notify.run,
    "press": press.run,
    "whole": whole.run,
}


def main() -> int:
    """Run the named benchmarks; return 1 if a figure misses its target or a benchmark failed."""
    arguments = _parser().parse_args()
    names = arguments.names or list(BENCHMARKS)
    figures: list[Figure] = []
    failed = False
    with _arena(arguments) as arena:
        versions = arena.versions()
        for name in names:
            began = time.monotonic()
            print(f"{name} …", end=" ", flush=True, file=sys.stderr)
            try:
                figures.extend(BENCHMARKS[name](arena))
            except BenchError as error:
                failed = True
                print("\n".join([f"failed: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
            else:
                print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    show(figures)
    parameters = {"quick": arguments.quick, "benchmarks": names, **deliveries.describe()}
    path = write(figures, parameters, versions)
    print(f"Written to {path.relative_to(ROOT)}.")
    return int(failed or any(figure.holds is False for figure in figures))


@contextlib.contextmanager
def _arena(arguments: argparse.Namespace) -> Iterator[Arena]:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="signalcraft-bench-")))
        database_url, redis_url = arguments.database_url, arguments.redis_url
        if not (database_url and redis_url):
            servers = stack.enter_context(embedded_servers.servers(directory / "servers", durable=True))
            database_url, redis_url = database_url or servers.database_url, redis_url or servers.redis_url
        yield Arena(
            database_url=database_url,
            redis_url=redis_url,
            directory=directory,
            quick=arguments.quick,
            events=arguments.events,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--database-url", default="", help="PostgreSQL; embedded by default")
    parser.add_argument("--redis-url", default="", help="Redis; embedded by default")
    parser.add_argument(
        "--events", type=int, default=0, help="events stored before growth is measured, deliveries before memory is"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs, smaller tables; less precise")
    return parser


if __name__ == "__main__":
    sys.exit(main())
