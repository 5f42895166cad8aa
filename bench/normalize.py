"""CPU time of one delivery: verify, identify, normalize and the group key, on one core.

``python -m bench.normalize`` prints microseconds for an event_alert of 6.5 kB and of 1 MB, best of many runs:
other processes can only make a run slower.
"""

import json
import timeit
from collections.abc import Callable
from datetime import UTC, datetime

from signalcraft.domain.alerts import NormalizedAlert, Vocabulary
from signalcraft.domain.deliveries import Delivery, Secret
from signalcraft.domain.grouping import group_key
from signalcraft.sources import sentry
from signalcraft.sources.sentry import samples

SECRET = "bench-client-secret"
SECRETS = (Secret(name="bench", kind="integration", value=SECRET.encode()),)
VOCABULARY = Vocabulary()
SIZES = {"6.5 kB": (6_500, 20, 500), "1 MB": (1_000_000, 1, 40)}


def key_of(alert: NormalizedAlert) -> str:
    return group_key(
        source=alert.source,
        project=alert.project,
        environment=alert.environment,
        fingerprint=alert.fingerprint,
    )


def whole(delivery: Delivery) -> str:
    sentry.verify(delivery, SECRETS)
    sentry.identify(delivery)
    (alert,) = sentry.normalize(delivery, VOCABULARY).outcomes
    assert isinstance(alert, NormalizedAlert)
    return key_of(alert)


def parts(delivery: Delivery) -> dict[str, Callable[[], object]]:
    (alert,) = sentry.normalize(delivery, VOCABULARY).outcomes
    assert isinstance(alert, NormalizedAlert)
    return {
        "verify": lambda: sentry.verify(delivery, SECRETS),
        "identify": lambda: sentry.identify(delivery),
        "normalize": lambda: sentry.normalize(delivery, VOCABULARY),
        "group key": lambda: key_of(alert),
        "all": lambda: whole(delivery),
        "(json.loads alone, twice)": lambda: (json.loads(delivery.body), json.loads(delivery.body)),
    }


def microseconds(work: Callable[[], object], number: int, repeat: int) -> float:
    return min(timeit.repeat(work, number=number, repeat=repeat)) / number * 1e6


def main() -> None:
    for name, (size, number, repeat) in SIZES.items():
        delivery = samples.build("event_alert.triggered", secret=SECRET, size=size).as_delivery(datetime.now(UTC))
        print(f"event_alert of {name}, in microseconds:")
        for part, work in parts(delivery).items():
            print(f"  {part:<26}{microseconds(work, number, repeat):>10,.1f}")


if __name__ == "__main__":
    main()
