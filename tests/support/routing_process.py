"""A process that routes what happened, from a given moment on: ``python -m tests.support.routing_process TIME``."""

import os
import sys
import time

from signalcraft.domain.notifications import default_rule
from signalcraft.notify.config import NotifyConfig
from signalcraft.notify.fan_out import FanOut
from signalcraft.notify.routes import Route
from signalcraft.notify.routing import Router
from signalcraft.storage.database import open_database, session
from tests.support.receivers import RecordingReceiver


def main() -> None:
    """Wait until the moment, so that several processes begin together; then route until nothing is left."""
    open_database(os.environ["DATABASE_URL"])
    config = NotifyConfig(receivers={"ops": RecordingReceiver()}, routes=(Route(name="all", to=("ops",)),))
    routing = FanOut(Router(config, [default_rule]))
    with session():
        time.sleep(max(float(sys.argv[1]) - time.time(), 0))
        while routing.run_once():
            continue


if __name__ == "__main__":
    main()
