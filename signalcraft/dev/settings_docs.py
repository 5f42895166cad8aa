"""The documentation of the settings, generated from ``Settings``. ``make docs`` writes it, a test compares it."""

from pathlib import Path

from signalcraft.dev.local_stack import ROOT
from signalcraft.settings import Settings

_BEGIN, _END = "<!-- settings -->\n", "<!-- /settings -->"


def env_example() -> str:
    """Return the text of ``.env.example``.

    Required settings have an example; the others are commented out with their default.
    """
    blocks = [
        (
            "# Every setting. A line that is commented out shows the default, or an example if the default is empty.\n"
            "# The shell and systemd both read this: put a value with spaces or one of & ; $ # ( into single quotes.\n"
        )
    ]
    for setting in Settings.declared():
        variable, values, default, example = setting.variable, setting.values, setting.default, setting.example
        mark = "" if default is None else "# "
        accepted = f"{values[0].upper()}{values[1:]}"
        blocks.append(f"# {setting.purpose}\n# {accepted}.\n{mark}{variable}={default or example}\n")
    return "\n".join(blocks)


def settings_table() -> str:
    """Return all settings as a Markdown table."""
    rows = ["| variable | default | values | purpose |", "|---|---|---|---|"]
    for setting in Settings.declared():
        variable, values, default, example = setting.variable, setting.values, setting.default, setting.example
        shown = "**must be set**" if default is None else f"`{default}`" if default else ""
        accepted = f"{values}; for example `{example}`" if example else values
        cells = (f"`{variable}`", shown, accepted, setting.purpose)
        rows.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    """Return the text of a cell, in which a bar would end it, even in code."""
    return text.replace("|", r"\|")


def with_settings_table(text: str) -> str:
    """Return ``text`` with its settings table replaced.

    The table is what stands between the two ``settings`` comments.
    """
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    return f"{before}{begin}{settings_table()}{end}{after}"


def documents() -> dict[Path, str]:
    """Return the text of ``.env.example`` and ``README.md`` by path."""
    readme = ROOT / "README.md"
    return {ROOT / ".env.example": env_example(), readme: with_settings_table(readme.read_text())}
