"""SignalCraft: Sentry's webhooks in, a few groups out.

The house, floor by floor. A module imports only from the floors below its own;
import-linter holds it to that (``pyproject.toml``).

::

    web | tasks | cli               entry points: wiring, RQ's tasks, the command line
    views | batching                routes, a few lines each | the RQ worker that takes many jobs at once
    schemas | pipeline | samples    marshmallow for the API | the life of an alert | signed sample deliveries
    cursors | deliveries | problems where a page begins | a request as a delivery | how we say no
    intake | health                 the steps of taking in | how we are
    directory                       who may come in, as the web process knows it
    store | jobs | embedded         writing alerts | all we ask Redis | both servers, from wheels
    tenants | retrieval | inbox     workspaces, secrets, tokens | reading for the API | the shelf in PostgreSQL
    rates                           how much is let in
    models | metrics | breaker      the tables | what is counted | what failed is left alone for a moment
    sources | grouping              what a sender means | what belongs together
    lifecycle                       which status may follow which
    alerts | errors | settings | logs   the words of the domain, refusals, configuration, log lines

``pipeline`` is the product on one screen: start there. ``alerts``, ``errors``, ``grouping``,
``lifecycle`` and ``sources`` do no I/O and read no clock.
"""
