import json

import pytest
from click.testing import CliRunner, Result

from signalcraft.cli import main


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
