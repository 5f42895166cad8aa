"""The page that lists every metric, written from their declarations.

``python -m signalcraft.catalogue > docs/metrics.md`` renews it; a test holds them equal.
"""

import sys

from signalcraft.metrics import DECLARED, Declaration

_HEAD = """# Metrics

What `/metrics` shows, in Prometheus's text format; `METRICS_TOKEN` closes it to others. Counters and histograms are
summed over all processes in Redis, so it does not matter which one answers; gauges are read when they are asked for,
and left out while what they are read from is away. Times are in seconds. `ops/prometheus/alerts.yml` and
`ops/grafana/signalcraft.json` are made of these.

| metric | kind | labels | meaning |
|---|---|---|---|
"""


def page() -> str:
    """The page, in Markdown."""
    return _HEAD + "".join(_row(one) for one in DECLARED)


def _row(one: Declaration) -> str:
    labels = ", ".join(f"`{label}`" for label in one.labels)
    limits = f" Buckets up to {one.buckets[-1]:,g}." if one.buckets else ""
    return f"| `{one.name}` | {one.kind} | {labels} | {one.help}{limits} |\n"


if __name__ == "__main__":
    sys.stdout.write(page())
