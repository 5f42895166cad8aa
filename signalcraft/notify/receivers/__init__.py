"""Kinds of receivers: one module each, and the table of them."""

from collections.abc import Mapping
from types import MappingProxyType

from signalcraft.notify.contract import Receiver
from signalcraft.notify.receivers.log import LogReceiver

KINDS: Mapping[str, type[Receiver]] = MappingProxyType({kind.kind: kind for kind in (LogReceiver,)})
