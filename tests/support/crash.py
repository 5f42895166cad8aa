"""Drive ``crashing_process``: a process that dies at a chosen step."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """How a process ended; ``steps`` of one that lived, ``answer`` where it answered a request."""

    killed: bool
    steps: int = 0
    answer: int = 0


class CrashingProcess:
    """``tests.support.crashing_process``, at the other end of a pipe."""

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

    def play(self, role: str, step: int, **order: object) -> Fate:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"role": role, "step": step, **order}) + "\n")
        self._process.stdin.flush()
        said: dict[str, Any] = {}
        while "killed" not in said:
            line = self._process.stdout.readline()
            assert line, "the process that forks them is dead"
            said |= json.loads(line)
        assert said["killed"] or "steps" in said, f"{role} failed at step {step}"
        return Fate(**said)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()
