"""The kind ``email``: text and HTML by SMTP, one thread for each group."""

from signalcraft.notify.receivers.email.smtp import EmailReceiver

__all__ = ["EmailReceiver"]
