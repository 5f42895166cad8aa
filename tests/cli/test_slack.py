import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from signalcraft.cli import main
from signalcraft.dev import fake_slack
from signalcraft.dev.fake_slack import FakeSlack


def _manifest(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main.main, ["slack", "manifest", *arguments], env={"PUBLIC_URL": "", **environ})


@pytest.mark.parametrize("url", ["https://alerts.example.org", "https://alerts.example.org/"])
def test_the_manifest_sends_buttons_to_this_deployment_and_asks_for_three_scopes(url: str) -> None:
    result = _manifest("--url", url)
    assert result.exit_code == 0
    manifest = json.loads(result.stdout)
    interactivity = manifest["settings"]["interactivity"]
    assert interactivity == {"is_enabled": True, "request_url": "https://alerts.example.org/slack/actions"}
    assert manifest["oauth_config"]["scopes"] == {"bot": ["chat:write", "chat:write.public", "channels:history"]}
    assert len(manifest["display_information"]["name"]) <= 35  # Slack's limits
    assert len(manifest["display_information"]["description"]) <= 140


def test_the_public_url_is_used_if_there_is_one() -> None:
    result = _manifest(PUBLIC_URL="https://alerts.example.org/base")
    assert "https://alerts.example.org/base/slack/actions" in result.stdout


@pytest.mark.parametrize("url", ["http://alerts.example.org", "alerts.example.org", "https://", "https://a.example/?x"])
def test_a_url_that_slack_cannot_use_is_refused_with_the_reason(url: str) -> None:
    result = _manifest("--url", url)
    assert (result.exit_code, "must be https:// and a host" in result.stderr) == (2, True)
    assert _manifest().exit_code == 2


NOTIFY = """
[receivers.pay]
kind = "slack"
token = "env:SLACK_BOT_TOKEN"
channel = "C0ALERTS"
[[routes]]
name = "all"
to = "pay"
"""


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    with fake_slack.serving() as serving:
        yield serving


def _check(slack: FakeSlack, *, channel: str = "C0ALERTS", **environ: str) -> Result:
    known = {
        "DATABASE_URL": "postgresql://localhost/none",
        "REDIS_URL": "redis://localhost",
        "NOTIFY": NOTIFY.replace("C0ALERTS", channel),
        "SLACK_API_URL": slack.url,
        "SLACK_BOT_TOKEN": slack.token,
        "SLACK_SIGNING_SECRET": slack.signing_secret,
        "PUBLIC_URL": "https://alerts.example.org",
    }
    return CliRunner().invoke(main.main, ["routes", "check"], env=known | environ)


def test_a_slack_app_that_is_set_up_has_no_problem_and_nothing_is_posted(slack: FakeSlack) -> None:
    result = _check(slack)
    assert (result.exit_code, result.stdout) == (0, "Receivers: 1. Routes: 1.\n")
    assert slack.messages() == []


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"SLACK_BOT_TOKEN": "xoxb-wrong"}, "(invalid_auth)"),
        ({"SLACK_SIGNING_SECRET": ""}, "SLACK_SIGNING_SECRET is not set: no button works"),
        ({"PUBLIC_URL": ""}, "PUBLIC_URL is not set: cards do not link"),
        ({"channel": "C0NONE"}, "there is no such channel"),
        ({"channel": "C0SECRET"}, "/invite the app"),
        ({"channel": "C0PUBLIC"}, "/invite the app"),
    ],
)
def test_what_is_missing_is_said_with_what_to_do_and_without_a_secret(
    slack: FakeSlack, environ: dict[str, str], said: str
) -> None:
    slack.add_channel("secret", is_private=True, is_member=False)
    slack.add_channel("public", is_member=False)
    result = _check(slack, **environ)
    assert (result.exit_code, len(result.stdout.splitlines())) == (1, 2)
    assert said in result.stdout
    assert "xoxb" not in result.output
    assert slack.signing_secret not in result.output


@pytest.mark.parametrize("scope", ["chat:write", "channels:history"])
def test_a_scope_that_the_app_lacks_is_named(slack: FakeSlack, scope: str) -> None:
    slack.scopes.remove(scope)
    result = _check(slack)
    assert (result.exit_code, scope in result.stdout) == (1, True)
