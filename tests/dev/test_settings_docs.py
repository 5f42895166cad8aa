"""The documents match the code: settings, commands, pins."""

import json
import re
import subprocess
from importlib.metadata import version

import pytest

from signalcraft.dev import settings_docs
from signalcraft.settings import Settings
from tests.support import ROOT

README = (ROOT / "README.md").read_text()
VARIABLES = {setting.variable for setting in Settings.declared()}


def test_the_env_example_is_generated_from_settings() -> None:
    assert (ROOT / ".env.example").read_text() == settings_docs.env_example(), "make docs"


def test_the_table_in_the_readme_is_generated_from_settings() -> None:
    assert settings_docs.with_settings_table(README) == README, "make docs"
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE)) == VARIABLES


def test_each_row_of_the_settings_table_has_four_cells() -> None:
    for row in settings_docs.settings_table().splitlines():
        assert len(re.split(r"(?<!\\)\|", row)) == 6, row


def test_the_env_example_is_a_valid_configuration() -> None:
    lines = [line for line in settings_docs.env_example().splitlines() if line and not line.startswith("# ")]
    assert Settings.from_environ(dict(line.split("=", 1) for line in lines)).port == 8000


def test_settings_in_app_json_exist() -> None:
    assert set(json.loads((ROOT / "app.json").read_text())["env"]) <= VARIABLES


def test_targets_that_the_readme_names_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|^)make ([a-z]+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_make_shell_opens_a_shell_that_finds_the_python_of_the_virtual_environment() -> None:
    done = subprocess.run(
        ["make", "--silent", "--old-file=.venv/.ready", "shell", "SHELL=/bin/sh"],  # noqa: S607 - whichever there is
        cwd=ROOT,
        input="command -v python",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == f"{ROOT}/.venv/bin/python", done.stderr


def test_files_that_the_readme_names_exist() -> None:
    for cell in re.findall(r"^\| (`.*?`) \| [a-z]", README.partition("## The map")[2], re.MULTILINE):
        names = re.findall(r"`([^`]+)`", cell)
        folder = "signalcraft" if names[0].startswith("signalcraft/") else ""
        for name in names:
            assert (ROOT / name).exists() or (ROOT / folder / name).exists(), name


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_with_a_reason_to_what_is_installed(name: str) -> None:
    for line in (ROOT / name).read_text().splitlines():
        if not line or line.startswith(("#", "-r")):
            continue
        pin, _, reason = line.partition("#")
        package, _, pinned = pin.strip().partition("==")
        assert version(package) == pinned
        assert reason.strip(), line


@pytest.mark.parametrize("path", ["README.md", "docs/deploy.md", "compose.yaml", "app.json", ".env.example"])
def test_no_document_gives_a_secret_a_value_that_everybody_knows(path: str) -> None:
    """A placeholder is a live secret: whoever reads the document can sign with it."""
    names = "SENTRY_CLIENT_SECRET|API_TOKEN|ENCRYPTION_KEY|METRICS_TOKEN|DASHBOARD_PASSWORD|POSTGRES_PASSWORD"
    text = (ROOT / path).read_text()
    assert re.findall(rf"\b(?:{names})(?:=|: )(?![\s<\"]|\.\.\.|\$\{{|$)\S*", text) == []
    assert re.findall(rf"\$\{{(?:{names}):-[^}}]", text) == [], "a default is known to everybody too"
    if path == "app.json":
        assert all("value" not in json.loads(text)["env"].get(name, {}) for name in names.split("|"))
