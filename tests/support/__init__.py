"""What tests share: builders, clients, processes that crash."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
