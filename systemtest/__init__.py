"""Tests of SignalCraft from outside: its HTTP responses, compared with its tables afterwards.

Nothing here imports SignalCraft; Sentry's deliveries are written a second time here, from Sentry's own code.

``python -m systemtest`` sends to a running deployment, given by ``SYSTEMTEST_URL``, ``SYSTEMTEST_SECRET`` and
``SYSTEMTEST_DATABASE_URL``, and checks it. ``python -m systemtest.chaos`` starts its own servers and
processes, and kills or freezes them one after the other while it sends.
"""
