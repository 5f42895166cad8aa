"""Helpers for tests: builders, clients, crashing processes."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
