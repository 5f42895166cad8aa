"""A fake Slack for tests, for the demo, and for developers of receivers: one workspace, one app, and a page.

It answers as Slack does, refuses what Slack refuses, misbehaves as it is told, and presses buttons as people do:

    with fake_slack.serving() as slack:
        WebClient(token=slack.token, base_url=slack.url).chat_postMessage(channel="C0ALERTS", text="hello")
        assert slack.messages("alerts")[0].pings == []
        slack.faults.add(Fault(kind=FaultKind.RESET, is_accepted=True, times=1))

``python -m signalcraft.dev.fake_slack`` serves it alone; docs/slack.md says how it is switched over HTTP.
"""

from signalcraft.dev.fake_slack.channels import Channel, Message
from signalcraft.dev.fake_slack.faults import Fault, FaultKind, RateLimit
from signalcraft.dev.fake_slack.server import serving
from signalcraft.dev.fake_slack.workspace import Call, FakeSlack, Press

__all__ = ["Call", "Channel", "FakeSlack", "Fault", "FaultKind", "Message", "Press", "RateLimit", "serving"]
