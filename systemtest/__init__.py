"""SignalCraft from outside: what it answers over HTTP, against what is in its tables afterwards.

Nothing here imports SignalCraft; what Sentry sends is written down here a second time, from Sentry's own code.

``python -m systemtest`` sends to a deployment that runs, named by ``SYSTEMTEST_URL``, ``SYSTEMTEST_SECRET`` and
``SYSTEMTEST_DATABASE_URL``, and checks it. ``python -m systemtest.chaos`` starts servers and processes of its own
and takes them away, one after the other, while it sends.
"""
