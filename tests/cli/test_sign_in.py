"""The command that prints a link to sign in, and the one that `make run` prints."""

from collections.abc import Sequence
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from signalcraft.cli import local, main
from tests.support.web_client import web


def run(environ: dict[str, str], arguments: Sequence[str], **changes: str) -> Result:
    return CliRunner().invoke(main.main, arguments, env={**environ, **changes})


LOGIN = ("login", "--workspace", "default", "--as", "ann")


def test_the_link_is_the_last_line_of_standard_output_alone_and_signs_in(
    environ: dict[str, str],
    redis: Redis,  # noqa: ARG001 - it has a workspace
) -> None:
    result = run(environ, LOGIN, PUBLIC_URL="https://alerts.example.org")
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    assert line.startswith("https://alerts.example.org/login?link=")
    assert "once, within 10 minutes" in result.stderr
    path = urlsplit(line)
    response = web(environ).get(f"{path.path}?{path.query}")
    assert (response.status_code, response.location) == (303, "/alerts")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("login", "--workspace", "nowhere", "--as", "ann"), "There is no workspace nowhere."),
        (("login", "--workspace", "default", "--as", ""), "NAME must be"),
        (("login", "--workspace", "default", "--as", "a\nb"), "NAME must be"),
        ((*LOGIN, "--minutes", "0"), "Invalid value for '--minutes'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    environ: dict[str, str],
    redis: Redis,  # noqa: ARG001 - it has a workspace
    arguments: Sequence[str],
    says: str,
) -> None:
    result = run(environ, arguments)
    assert result.exit_code != 0
    assert says in result.stderr
    assert result.stdout == ""


def test_without_pages_there_is_no_link(environ: dict[str, str], redis: Redis) -> None:  # noqa: ARG001 - it has a workspace
    result = run(environ, LOGIN, UI="off")
    assert result.exit_code != 0
    assert "set UI=on" in result.stderr
    assert local._sign_in_link({**environ, "UI": "off"}) == "are off (UI=off)"


def test_make_run_s_link_leads_to_this_machine(environ: dict[str, str], redis: Redis) -> None:  # noqa: ARG001 - it has a workspace
    link = local._sign_in_link({**environ, "PORT": "8123", "PUBLIC_URL": "https://alerts.example.org"})
    assert link.startswith("http://127.0.0.1:8123/login?link=")
    path = urlsplit(link)
    client = web(environ)
    assert client.get(f"{path.path}?{path.query}").status_code == 303
    assert "dev" in client.get("/alerts").text
