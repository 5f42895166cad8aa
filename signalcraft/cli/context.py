"""Shared by the commands: settings, a database session, prompts, the console."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click
from rich.console import Console

from signalcraft.settings import Settings
from signalcraft.storage.database import open_database, session

#: For commands that read or delete many rows.
LONG_TIMEOUT_MS = 120_000


@contextmanager
def database(*, statement_timeout_ms: int = 15_000) -> Iterator[Settings]:
    """Read the settings from the environment and open a session; yield the settings.

    Raises:
        InvalidSetting: a setting is missing or wrong.
        DatabaseUnavailable: PostgreSQL is unavailable.
    """
    settings = Settings.from_environ(os.environ)
    open_database(settings.database_url, statement_timeout_ms=statement_timeout_ms)
    with session():
        yield settings


def workspace_option(*, required: bool = False, default: str = "") -> Callable[[Any], Any]:
    """Return the option ``--workspace``, alike in every command; ``default`` says in words what it is without."""
    text = f"Slug of the workspace; by default {default}." if default else "Slug of the workspace."
    return click.option("--workspace", required=required, metavar="SLUG", help=text)


def prompt_secret() -> str:
    """Ask for a secret without showing it, or read it from standard input."""
    if sys.stdin.isatty():
        return str(click.prompt("Secret", hide_input=True, err=True))
    return sys.stdin.read().strip()


def minute(moment: datetime | None) -> str:
    """Return a time to the minute, for a table; empty for none."""
    return f"{moment:%Y-%m-%d %H:%M}" if moment else ""


def console() -> Console:
    """Return a console as wide as the terminal; without one, wide enough for the tables."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=120)
