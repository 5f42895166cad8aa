"""The page of all metrics, from their declarations. ``make docs`` writes it, a test compares it."""

from pathlib import Path

from signalcraft.dev.local_stack import ROOT
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


def documents() -> dict[Path, str]:
    """Return ``docs/metrics.md`` as it should be."""
    return {ROOT / "docs" / "metrics.md": page()}
