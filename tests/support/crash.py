"""Control ``crashing_process``: a process that is killed at a chosen step."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a process ended: its ``steps`` unless it was killed, and the ``status`` of its HTTP response, if any."""

    killed: bool
    steps: int = 0
    status: int = 0


class CrashingProcess:
    """A ``tests.support.crashing_process``, connected by pipes."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.crashing_process"],
            cwd=ROOT,
            env={**os.environ, **environ, "LOG_LEVEL": "ERROR"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def play(self, role: str, step: int, **order: object) -> RunResult:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"role": role, "step": step, **order}) + "\n")
        self._process.stdin.flush()
        report: dict[str, Any] = {}
        while "killed" not in report:
            line = self._process.stdout.readline()
            assert line, "the parent process is dead"
            report |= json.loads(line)
        assert report["killed"] or "steps" in report, f"{role} failed at step {step}"
        return RunResult(**report)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()
