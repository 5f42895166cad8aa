"""How the threads of a web process are shared out: each kind of work has a limit, so that deliveries find a thread.

While none of them is busy, small deliveries need none (``web.server``). The limits of what is not a delivery add up to
less than ``WEB_THREADS``. Half of the threads are for API requests, of which exports, which last for as long as they
are read, get half.
"""

from typing import Final

#: gunicorn's ``threads``.
WEB_THREADS: Final = 16
#: Threads that run at once while that keeps the processor busy; the others are for when those wait.
MIN_RUNNING: Final = 2

MAX_API_REQUESTS: Final = 8
MAX_EXPORTS: Final = 4
MAX_OPERATIONS_REQUESTS: Final = 2
MAX_DASHBOARD_REQUESTS: Final = 2
#: Deliveries that wait for a Redis that was unavailable a moment ago.
MAX_REDIS_RETRIES: Final = 2
#: Threads that wait for a client to read its response.
MAX_BLOCKED_WRITERS: Final = 4
