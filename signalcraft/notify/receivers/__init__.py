"""Kinds of receivers: one module or folder each, and the table of them."""

from collections.abc import Mapping
from typing import Final

from signalcraft.notify.contract import Receiver
from signalcraft.notify.receivers.apprise import AppriseReceiver
from signalcraft.notify.receivers.email import EmailReceiver
from signalcraft.notify.receivers.log import LogReceiver
from signalcraft.notify.receivers.pagerduty import PagerDutyReceiver
from signalcraft.notify.receivers.slack import SlackReceiver
from signalcraft.notify.receivers.slack_webhook import SlackWebhookReceiver
from signalcraft.notify.receivers.webhook import WebhookReceiver

KINDS: Final[Mapping[str, type[Receiver]]] = {
    kind.kind: kind
    for kind in (
        LogReceiver,
        WebhookReceiver,
        SlackReceiver,
        SlackWebhookReceiver,
        EmailReceiver,
        PagerDutyReceiver,
        AppriseReceiver,
    )
}
