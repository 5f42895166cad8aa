"""``worker.py`` on a machine whose clock is off by ``CLOCK_SHIFT_SECONDS``. For ``test_batch_worker``."""

import datetime as dt
import os
import sys
import time
from typing import Self

_SHIFT = float(os.environ["CLOCK_SHIFT_SECONDS"])
_real_time, _Datetime = time.time, dt.datetime


class _IsAnyDatetime(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Datetime)


class _ShiftedDatetime(_Datetime, metaclass=_IsAnyDatetime):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Self:
        return cls.fromtimestamp(time.time(), tz)


if __name__ == "__main__":
    time.time = lambda: _real_time() + _SHIFT
    dt.datetime = _ShiftedDatetime  # type: ignore[misc]
    import worker  # only now: it and RQ import the clock by name

    sys.exit(worker.main())
