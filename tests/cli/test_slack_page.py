"""docs/slack.md says what is so: its scopes, its configuration, its faults and its pictures."""

import json
import re

import urllib3

from signalcraft.cli.slack import manifest
from signalcraft.dev import fake_slack
from signalcraft.notify import config
from tests.support import ROOT

PAGE = (ROOT / "docs" / "slack.md").read_text()
MAX_PICTURE_BYTES = 100_000


def test_the_scopes_on_the_page_are_those_of_the_manifest() -> None:
    oauth = manifest("https://alerts.example.org")["oauth_config"]
    assert oauth == {"scopes": {"bot": re.findall(r"^ *\| `(ch\w+:[\w.]+)` \|", PAGE, re.MULTILINE)}}


def test_the_configuration_on_the_page_loads() -> None:
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    loaded = config.load(toml, {"SLACK_BOT_TOKEN": "xoxb-1"})
    assert [receiver.kind for receiver in loaded.receivers.values()] == ["slack"]


def test_the_faults_on_the_page_are_taken() -> None:
    faults = [json.loads(fault) for fault in re.findall(r"--json '(.*)'", PAGE)]
    assert len(faults) == 2
    with fake_slack.serving() as slack, urllib3.PoolManager() as pool:
        for fault in faults:
            assert pool.request("POST", f"{slack.root}control/faults", json=fault).status == 204
        assert pool.request("POST", f"{slack.root}api/auth.test", retries=False).status == 429


def test_each_picture_is_on_the_page_in_both_schemes_and_small() -> None:
    shown = set(re.findall(r"pictures/([\w-]+\.png)", PAGE))
    kept = {path.name: path.stat().st_size for path in (ROOT / "docs" / "pictures").glob("slack-*")}
    assert shown == set(kept)
    assert max(kept.values()) < MAX_PICTURE_BYTES
    assert {name.replace("light", "dark") for name in shown if "light" in name} == {n for n in shown if "dark" in n}
