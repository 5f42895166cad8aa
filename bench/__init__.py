"""What SignalCraft's promises of speed and size come to, measured: ``python -m bench [names…]``.

A machine is faster at one moment than at the next, and other people's are not ours. So a figure is a **ratio**
wherever there is something to compare with: ours and a named baseline run in turns (A B A B …) on the same servers
in the same minutes, and the median of the pairs is reported. Nothing here is a test, and no test measures time.

::

    __main__    the command: which ones, on which servers
    figures     a figure, the table, the file in results/
    arena       servers, lanes (a database and a Redis database of one's own), processes
    pairs       taking turns; percentiles
    deliveries  6.5 kB event_alerts over a few hot groups and a long tail
    draining    a worker process, held while its queue is filled, then let go
    serving     gunicorn on a lane
    load        a million stored events, by SQL
    http        a small load generator, closed loop and open loop
    stock       the baseline of the worker    plain  the baseline of the web process

    single (and normalize)  drain  latency  intake  refusals  workers  memory  growth  lists  purge
                one benchmark each
"""
