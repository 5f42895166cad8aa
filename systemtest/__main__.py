"""Send to a running deployment, and check it. The package docstring lists the environment variables."""

import argparse
import os
import sys
import time

from systemtest import checking
from systemtest.senders import Senders


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m systemtest", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--per-second", type=float, default=50)
    arguments = parser.parse_args()
    try:
        url, secret, database_url = (os.environ[f"SYSTEMTEST_{name}"] for name in ("URL", "SECRET", "DATABASE_URL"))
    except KeyError as missing:
        parser.error(f"{missing.args[0]} is not set")
    senders = Senders(url, secret, number=4, per_second=arguments.per_second, seed=0)
    with senders.sending():
        time.sleep(arguments.seconds)
    findings = checking.check(senders.history, database_url, timeout_seconds=30)
    print(*findings.lines(), sep="\n")
    return 0 if findings.guarantees_hold else 1


if __name__ == "__main__":
    sys.exit(main())
