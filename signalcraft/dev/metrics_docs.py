"""The page of all metrics, generated from their declarations. ``make docs`` writes it, a test compares it."""

from pathlib import Path

from signalcraft.dev.local_stack import ROOT
from signalcraft.metrics import DECLARED, Declaration

_HEAD = """# Metrics

The metrics of `/metrics`, in Prometheus's text format; `METRICS_TOKEN` restricts access to it. Counters and histograms
are summed over all processes in Redis, so it does not matter which process is scraped. Gauges are read at each scrape,
and left out while their source is unavailable. Times are in seconds. `ops/prometheus/alerts.yml` and
`ops/grafana/signalcraft.json` use these metrics.

| metric | kind | labels | meaning |
|---|---|---|---|
"""


def page() -> str:
    """Return the page in Markdown."""
    return _HEAD + "".join(_row(declaration) for declaration in DECLARED)


def _row(metric: Declaration) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    limits = f" Buckets up to {metric.buckets[-1]:,g}." if metric.buckets else ""
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help}{limits} |\n"


def documents() -> dict[Path, str]:
    """Return the text of ``docs/metrics.md`` by path."""
    return {ROOT / "docs" / "metrics.md": page()}
