"""The kind ``slack``: one message for each group, edited in place, with buttons."""

from signalcraft.notify.receivers.slack.receiver import SlackReceiver

__all__ = ["SlackReceiver"]
