"""Benchmarks of SignalCraft's speed and size: ``python -m bench [names…]``.

The speed of a machine varies from minute to minute, and machines differ. So a figure is a **ratio** wherever there is
a baseline: SignalCraft and the baseline run alternately (A B A B …) on the same servers in the same minutes, and the
median of the pairs is reported. Nothing here is a test, and no test measures time.

::

    __main__    the command: which ones, on which servers
    figures     a figure, the table, the file in results/
    arena       servers, lanes (a database and a Redis database for one benchmark), processes
    pairs       alternating runs; percentiles
    deliveries  6.5 kB event_alerts over a few hot groups and a long tail
    draining    a worker process, paused while its queue is filled, then resumed
    serving     gunicorn in a lane
    load        a million stored events, by SQL
    http        a small load generator, closed loop and open loop
    stock       the baseline of the worker    plain  the baseline of the web process

    single (and normalize)  drain  latency  intake  refusals  contention  workers  memory  growth  lists  purge
                notify
                one benchmark each
"""
