"""A figure, the table of all figures, and the results file, which also describes the machine."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value. ``at_least`` or ``at_most`` is its target; ``against`` names the baseline.

    ``detail`` has what the value was computed from: absolute figures, spread, parameters. ``load`` is the load average
    over a minute at the end: much over 2 means that other processes were busy.
    """

    benchmark: str
    name: str
    value: float
    unit: str
    against: str = ""
    at_least: float | None = None
    at_most: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    load: float = field(default_factory=lambda: round(os.getloadavg()[0], 1))

    @property
    def target(self) -> str:
        """Return the target as text."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return f"≤ {self.at_most:g}" if self.at_most is not None else ""

    @property
    def holds(self) -> bool | None:
        """Return whether the target is met; None without a target."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return self.value <= self.at_most if self.at_most is not None else None


def as_table(figures: Iterable[Figure]) -> Table:
    """Return all figures in one table."""
    table = Table("benchmark", "figure", title="python -m bench", title_justify="left")
    table.add_column("value", justify="right")
    table.add_column("must", justify="right")
    for title in ("", "against", "detail", "load"):
        table.add_column(title)
    for figure in figures:
        mark = {True: "[green]yes[/]", False: "[red]NO[/]", None: ""}[figure.holds]
        value = f"{_short(figure.value)} {figure.unit}"
        detail = ", ".join(f"{name} {_short(value)}" for name, value in figure.detail.items())
        table.add_row(
            figure.benchmark, figure.name, value, figure.target, mark, figure.against, detail, str(figure.load)
        )
    return table


def show(figures: Iterable[Figure]) -> None:
    """Print the table."""
    Console(width=None if os.isatty(1) else 200).print(as_table(figures))


def write(figures: Iterable[Figure], parameters: Mapping[str, Any], versions: Mapping[str, str]) -> Path:
    """Write ``figures`` and what is needed to reproduce them; return the path."""
    now = datetime.now(UTC)
    content = {
        "measured_at": now.isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **versions, **_pinned()},
        "parameters": parameters,
        "figures": [{**asdict(figure), "target": figure.target, "holds": figure.holds} for figure in figures],
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{now.date().isoformat()}-{_commit()}.json"
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return path


def machine() -> dict[str, Any]:
    """Cores, memory and processor."""
    return {
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "cpu": _cpu_model(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": [round(load, 1) for load in os.getloadavg()],
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _commit() -> str:
    """Return the short commit, with a plus if files differ from it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],  # noqa: S607 - git from PATH
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "no-commit"


def _pinned() -> dict[str, str]:
    """Return the pinned versions of requirements.txt by name."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    return {name: version for name, equals, version in (line.partition("==") for line in lines) if equals}


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
