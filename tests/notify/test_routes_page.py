"""Every example of docs/routes.md does what the page says."""

import re
import shlex
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from signalcraft.cli import main
from tests.support import ROOT

PAGE = (ROOT / "docs" / "routes.md").read_text()
RECEIVERS, *EXAMPLES = re.split(r"^## ", PAGE, flags=re.MULTILINE)
COMMAND = "python -m signalcraft "


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def commands() -> Iterator[tuple[str, str]]:
    """Each command of the page, with the configuration it is about."""
    (receivers,) = blocks(RECEIVERS, "toml")
    for example in EXAMPLES:
        (routes,) = blocks(example, "toml")
        for block in blocks(example, "sh"):
            for line in block.splitlines():
                yield f"{routes}\n{receivers}", line


def test_there_are_ten_examples_each_with_a_command() -> None:
    assert len(EXAMPLES) == 10
    assert all(blocks(example, "sh") for example in EXAMPLES)


@pytest.mark.parametrize(("notify", "line"), [pytest.param(*each, id=each[1]) for each in commands()])
def test_the_command_of_an_example_finds_what_the_page_says(
    monkeypatch: pytest.MonkeyPatch, notify: str, line: str
) -> None:
    environ = {"NOTIFY": notify, "DATABASE_URL": "postgresql://localhost/none", "REDIS_URL": "redis://localhost"}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    command, _, says = line.partition(" # ")
    result = CliRunner().invoke(main.main, shlex.split(command.removeprefix(COMMAND)))
    assert result.exit_code == 0, result.output
    assert says in result.output
    assert "--expect" in command


def test_a_command_that_expects_another_receiver_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    notify, _ = next(commands())
    environ = {"NOTIFY": notify, "DATABASE_URL": "postgresql://localhost/none", "REDIS_URL": "redis://localhost"}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(main.main, ["routes", "test", "project=shop", "--expect", "pay"])
    assert result.exit_code == 1
